"""``lungforge phantom``: a small data set of drawn thoraxes, in the layout of LUNA16."""

import dataclasses
from pathlib import PurePosixPath

from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.ct.phantoms.generate import phantom_series_uid, write_phantoms
from lungforge.errors import InputError
from lungforge.storage import StoreError, join_uri, open_uri
from lungforge.storage.errors import explained
from services.common.progress import progress, say

_TABLES = ("annotations.csv", "candidates_V2.csv")


@dataclasses.dataclass(frozen=True)
class PhantomConfig:
    """Draw a small data set of thoraxes in the layout of LUNA16."""

    out: str
    """Folder to write to; it is made where it is missing, and must have no other files."""

    series: int = 8
    """How many scans, spread over the ten subsets."""

    size: int = 256
    """Rows and columns of a slice, in pixels."""

    slices: int = 60
    """Slices of a scan."""

    seed: int = 0
    """The same seed draws the same data set."""

    def __post_init__(self) -> None:
        if self.series < 1:
            raise InputError(f"--series is {self.series}; draw at least 1")
        if not 64 <= self.size <= 1024:
            raise InputError(f"--size is {self.size}; choose a side from 64 to 1024 px")
        if not 10 <= self.slices <= 1000:
            raise InputError(f"--slices is {self.slices}; choose from 10 to 1000")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; it must not be negative")


@dataclasses.dataclass(frozen=True)
class PhantomResult:
    """What was drawn: the folder, and the number of scans and nodules in it."""

    out: str
    series: int
    nodules: int


def run(config: PhantomConfig) -> PhantomResult:
    """Draw the data set; where it is whole already, nothing, and over one that was cut short, all of it.

    Raises:
        InputError: The folder has other files (phantoms are not mixed with other data), or it cannot be
            written.
    """
    with explained(config.out):
        if _is_whole(config):
            say("the phantoms are drawn already")
            known = read_annotations(join_uri(config.out, "annotations.csv"))
            return PhantomResult(config.out, config.series, nodules=sum(map(len, known.values())))
        with progress("phantom", config.series, unit="scans") as advance:
            try:
                drawn = write_phantoms(
                    config.out,
                    series=config.series,
                    seed=config.seed,
                    size=config.size,
                    slices=config.slices,
                    advance=advance,
                )
            except FileNotFoundError as error:
                raise StoreError(f"{config.out}: no such bucket; make it first") from error
    return PhantomResult(config.out, config.series, nodules=len(drawn))


def _is_whole(config: PhantomConfig) -> bool:
    """Whether all of the drawing is there; InputError where anything else is."""
    scans = {
        phantom_series_uid(config.seed, index, size=config.size, slices=config.slices)
        for index in range(config.series)
    }
    fs, path = open_uri(config.out)
    found = [PurePosixPath(name) for name in fs.find(path)] if fs.exists(path) else []
    other = [name for name in found if name.name not in _TABLES and name.stem not in scans]
    if other:
        raise InputError(f"--out {config.out} has other files ({other[0].name}); name a new folder")
    drawn = {name.stem for name in found if name.match("subset*/*.mhd")}
    return drawn == scans and any(name.name == "annotations.csv" for name in found)

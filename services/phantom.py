"""``lungforge phantom``: a small data set of drawn thoraxes, in the layout of LUNA16."""

import dataclasses

from lungforge.ct.phantom import write_phantoms
from lungforge.errors import InputError
from lungforge.store import open_uri
from services.progress import progress


@dataclasses.dataclass(frozen=True)
class PhantomConfig:
    """Draw a small data set of thoraxes in the layout of LUNA16."""

    out: str
    """Folder to write to; it is made where it is missing, and must be empty."""

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
    """Draw the data set.

    Raises:
        InputError: The folder has files already: phantoms are not mixed with other data.
    """
    fs, path = open_uri(config.out)
    if fs.exists(path) and fs.ls(path):
        raise InputError(f"--out {config.out} is not empty; name a new folder")
    with progress("phantom", config.series, unit="scans") as advance:
        nodules = write_phantoms(
            config.out,
            series=config.series,
            seed=config.seed,
            size=config.size,
            slices=config.slices,
            advance=advance,
        )
    return PhantomResult(out=config.out, series=config.series, nodules=len(nodules))

"""``lungforge phantom``: a small data set of synthetic phantoms, in the layout of LUNA16."""

import dataclasses
from collections.abc import Iterator

from lungforge.config import at_least, between, check
from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.ct.phantoms.generate import phantom_series_uid, write_phantoms
from lungforge.errors import InputError
from lungforge.storage import join_uri
from lungforge.storage.reading import list_folder
from services.common.progress import progress, say

_TABLES = ("annotations.csv", "candidates_V2.csv")


@dataclasses.dataclass(frozen=True)
class PhantomConfig:
    """Generate a small data set of synthetic phantoms in the layout of LUNA16."""

    out: str
    """Folder to write to; it is made where it is missing, and must have no other files."""

    series: int = dataclasses.field(default=8, metadata=at_least(1))
    """How many scans, spread over the ten subsets."""

    size: int = dataclasses.field(default=256, metadata=between(64, 1024))
    """Rows and columns of a slice, in pixels."""

    slices: int = dataclasses.field(default=60, metadata=between(10, 1000))
    """Slices of a scan."""

    seed: int = dataclasses.field(default=0, metadata=at_least(0))
    """The same seed generates the same data set."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class PhantomResult:
    """What was generated: the folder, and how many scans and nodules are in it."""

    out: str
    series: int
    nodules: int


def run(config: PhantomConfig) -> PhantomResult:
    """Generate the data set; where it is whole already, nothing, and over one that was cut short, all of it.

    Raises:
        InputError: The folder has other files (phantoms are not mixed with other data).
        AccessError: The folder cannot be read or written now.
    """
    if _is_whole(config):
        say("the phantoms exist already")
        annotations = read_annotations(join_uri(config.out, "annotations.csv"))
        return PhantomResult(config.out, config.series, nodules=sum(map(len, annotations.values())))
    with progress("phantom", config.series, unit="scans") as advance:
        nodules = write_phantoms(
            config.out,
            series=config.series,
            seed=config.seed,
            size=config.size,
            slices=config.slices,
            advance=advance,
        )
    return PhantomResult(config.out, config.series, nodules=len(nodules))


def _is_whole(config: PhantomConfig) -> bool:
    """Whether all phantoms are there; InputError where anything else is."""
    scans = {
        phantom_series_uid(config.seed, index, size=config.size, slices=config.slices)
        for index in range(config.series)
    }
    headers, tables = set(), set()
    for folder, name in _files(config.out):
        stem, _, ending = name.rpartition(".")
        if name in _TABLES:
            tables.add(name)
        elif stem not in scans:
            raise InputError(f"--out {config.out} has other files ({name}); name a new folder")
        elif ending == "mhd" and folder.startswith("subset"):
            headers.add(stem)
    return headers == scans and "annotations.csv" in tables


def _files(uri: str, folder: str = "") -> Iterator[tuple[str, str]]:
    """The name of the folder, and that of the file, of every file at any depth."""
    try:
        entries = list_folder(uri)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_folder:
            yield from _files(entry.uri, entry.name)
        else:
            yield folder, entry.name

"""``lungforge phantom``: a small data set of synthetic phantoms, in the layout of LUNA16."""

import dataclasses
import shlex
from collections.abc import Iterator
from typing import Any

from lungforge.config import EXECUTION, at_least, between, check, identity
from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.ct.phantoms.generate import RECORD_NAME, phantom_series_uid, write_phantoms
from lungforge.datasets.strict_json import parse_json
from lungforge.errors import InputError
from lungforge.public_uri import json_bytes
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there, remove_temporaries
from lungforge.storage.reading import list_folder
from lungforge.storage.sole_writer import sole_writer
from services.common.file_sums import FileSums
from services.common.progress import progress, say

_TABLES = ("annotations.csv", "candidates_V2.csv")


@dataclasses.dataclass(frozen=True)
class PhantomConfig:
    """Generate a small data set of synthetic phantoms in the layout of LUNA16."""

    out: str = dataclasses.field(metadata=EXECUTION)
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

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"lungforge preprocess --source {shlex.quote(self.out)} --out slices",)


def run(config: PhantomConfig) -> PhantomResult:
    """Generate the data set; where it is whole already, nothing, and over one that is not, all of it.

    Raises:
        InputError: The folder has other files (phantoms are not mixed with other data), or another run is
            writing there.
        AccessError: The folder cannot be read or written now.
    """
    _refuse_other_files(config)
    with sole_writer(config.out):
        wrong = _first_wrong(config, _claim(config))
        if wrong is None:
            say("the phantoms exist already")
            annotations = read_annotations(join_uri(config.out, "annotations.csv"))
            return PhantomResult(config.out, config.series, nodules=sum(map(len, annotations.values())))
        nodules = _write(config)
    return PhantomResult(config.out, config.series, nodules)


def _write(config: PhantomConfig) -> int:
    """Write all files, and the record of them last; returns how many nodules there are."""
    sums = FileSums()

    def write(uri: str, data: bytes) -> None:
        write_bytes_atomic(uri, data)
        sums.add(uri.removeprefix(config.out).strip("/"), data)

    with progress("phantom", config.series, unit="scans") as advance:
        nodules = write_phantoms(
            config.out,
            series=config.series,
            seed=config.seed,
            size=config.size,
            slices=config.slices,
            advance=advance,
            write=write,
        )
    for folder in sorted({path.rpartition("/")[0] for path in sums.files}):
        remove_temporaries(join_uri(config.out, folder) if folder else config.out)
    write_bytes_atomic(join_uri(config.out, RECORD_NAME), _encoded(config, sums))
    return len(nodules)


def _claim(config: PhantomConfig) -> FileSums | None:
    """Take the folder for these phantoms; returns what is recorded of their files, None of none.

    Of two that begin to fill a folder with different phantoms, one wins: the record is created once.

    Raises:
        InputError: The folder is for other phantoms.
    """
    place = join_uri(config.out, RECORD_NAME)
    data = read_if_there(place)
    if data is None:
        try:
            write_bytes_atomic(place, _encoded(config, None), exclusive=True)
            return None
        except FileExistsError:
            data = read_if_there(place)
    try:
        document: dict[str, Any] = parse_json(data or b"")
        present, wanted = document["phantoms"], identity(config)
        sums = None if document["files"] is None else FileSums.from_json(document["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} is not what `lungforge phantom` wrote; name a new folder") from error
    if present != wanted:
        raise InputError(
            f"--out {config.out} holds other phantoms ({present}, not {wanted}); name a new folder"
        )
    return sums


def _first_wrong(config: PhantomConfig, sums: FileSums | None) -> str | None:
    """A file that is missing or not as it was written; None when all phantoms are there and sound."""
    if sums is None:
        return RECORD_NAME
    wrong = sums.first_wrong(config.out)
    if wrong is not None:
        say(f"{join_uri(config.out, wrong)} is missing or altered; the phantoms are generated again")
    return wrong


def _encoded(config: PhantomConfig, sums: FileSums | None) -> bytes:
    return json_bytes({"phantoms": identity(config), "files": None if sums is None else sums.to_json()})


def _refuse_other_files(config: PhantomConfig) -> None:
    """Raise InputError where there is anything but these phantoms, and hidden files."""
    scans = {
        phantom_series_uid(config.seed, index, size=config.size, slices=config.slices)
        for index in range(config.series)
    }
    for name in _files(config.out):
        stem = name.rpartition(".")[0]
        # Hidden ones are what a killed run left behind, or what file managers leave everywhere.
        if name not in (*_TABLES, RECORD_NAME) and stem not in scans and not name.startswith("."):
            raise InputError(f"--out {config.out} has other files ({name}); name a new folder")


def _files(uri: str) -> Iterator[str]:
    """The name of every file at any depth."""
    pending = [uri]
    while pending:
        try:
            entries = list_folder(pending.pop())
        except FileNotFoundError:
            continue
        pending += [entry.uri for entry in entries if entry.is_folder]
        yield from (entry.name for entry in entries if not entry.is_folder)

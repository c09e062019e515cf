"""``lungforge export``: a dataset as image files for other programs, with their provenance."""

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from lungforge.datasets import Dataset, Kind, rows_from_table
from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.sole_writer import sole_writer
from services.common.file_sums import FileSums
from services.common.progress import progress, say
from services.export.coco import ANNOTATIONS_NAME, CocoAnnotations
from services.export.config import ExportConfig
from services.export.files import CLASS_FOLDERS, Row, RowFiles, UniqueNames
from services.export.provenance import describe, find_complete, mark_complete, mark_started

#: Rows that are encoded and written concurrently: on object storage every file is a round trip.
WRITERS = 8

Paths = list[PurePosixPath]


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """Contents of the export."""

    out: str
    format: str
    rows: int
    """Rows of the dataset."""
    files: dict[str, int]
    """Number of files by type: ct (8 bits), hu, map."""
    classes: dict[str, int]
    """For imagefolder: number of crops by class."""
    boxes: int
    """For coco: number of nodule boxes."""
    written: bool
    """Whether this run wrote it; False if it was complete already."""

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"read {self.out} with your program; provenance.json there says where each file is from",)


def run(config: ExportConfig) -> ExportResult:
    """Write the images, and ``provenance.json`` last: without it, an export is incomplete.

    Raises:
        InputError: ``data`` is not a dataset, or has no images for the format; or ``out`` holds other files,
            or another run is writing there.
        ContentError: The dataset is damaged.
        AccessError: ``out`` cannot be written now.
    """
    dataset = Dataset.open(config.data)
    _check(dataset, config)
    description = describe(dataset, config)
    with sole_writer(config.out):
        whole = find_complete(config.out, description)
        written = whole is None
        if whole is None:
            whole = _write(dataset, config, description)
        else:
            say(f"{config.out} is complete already; nothing to write")
    return ExportResult(
        out=config.out,
        format=config.format,
        written=written,
        **{name: whole[name] for name in ("rows", "files", "classes", "boxes")},
    )


def _write(dataset: Dataset, config: ExportConfig, description: dict[str, Any]) -> dict[str, Any]:
    """Write all files; returns the provenance."""
    with _writing(config.out):
        mark_started(config.out, description)
    sums = FileSums()
    document = description | _write_rows(dataset, config, sums)
    with _writing(config.out):
        folders = CLASS_FOLDERS if config.format == "imagefolder" else ()
        mark_complete(config.out, document, sums, folders)
    return document


def _check(dataset: Dataset, config: ExportConfig) -> None:
    kind = dataset.manifest.kind
    if kind not in (Kind.SLICES, Kind.SAMPLES, Kind.CROPS):
        raise InputError(f"{config.data} is a {kind.value} dataset; export takes slices, samples or crops")
    if kind is Kind.CROPS and config.format in ("coco", "metaimage"):
        lacking = "boxes" if config.format == "coco" else "spacing"
        raise InputError(f"crops have no {lacking}; export them with --format imagefolder or png")
    if dataset.rows == 0:
        raise InputError(f"{config.data} has no rows; there is nothing to export")


def _write_rows(dataset: Dataset, config: ExportConfig, sums: FileSums) -> dict[str, Any]:
    """Write the files of all rows; records them, and returns the counts for the provenance."""
    maker, annotations = RowFiles(dataset, config), CocoAnnotations()
    files: Counter[str] = Counter()
    classes: Counter[str] = Counter(dict.fromkeys(CLASS_FOLDERS, 0) if config.format == "imagefolder" else {})
    edits: Counter[str] = Counter()
    models: set[str] = set()

    def write(name: str, row: Row) -> Paths:
        with _writing(config.out):
            made = maker.make(name, row)
            for path, data in made.items():
                write_bytes_atomic(join_uri(config.out, path), data)
                sums.add(path, data)
        return [PurePosixPath(path) for path in made]

    with ThreadPoolExecutor(WRITERS) as pool, progress("export", dataset.rows, unit="rows") as advance:
        for row, paths in _in_order(pool, write, _named_rows(dataset)):
            files.update(path.stem.rsplit("_", 1)[-1] for path in paths)
            if config.format == "imagefolder":
                classes.update(path.parts[0] for path in paths)
            if config.format == "coco":
                annotations.add(paths[0].name, row)
            if dataset.manifest.kind is Kind.SAMPLES:
                edits[row["edit"]] += 1
                models.add(row["model_sha256"])
            advance()
    if config.format == "coco":
        with _writing(config.out):
            data = annotations.to_bytes(dataset)
            write_bytes_atomic(join_uri(config.out, ANNOTATIONS_NAME), data)
            sums.add(ANNOTATIONS_NAME, data)
    for name, crops in classes.items():
        if not crops:
            say(f"{name} is empty: no such slices (for healthy ones: preprocess --healthy-every)")
    return {
        "rows": dataset.rows,
        "files": dict(files),
        "classes": dict(classes),
        "boxes": annotations.boxes,
        "edits": dict(edits),
        "models": sorted(models),
    }


def _named_rows(dataset: Dataset) -> Iterator[tuple[str, Row]]:
    names = UniqueNames(dataset.manifest.kind)
    for part in dataset.parts:
        for table in dataset.iter_batches(part):
            for row in rows_from_table(table):
                yield names.next(row), row


def _in_order(
    pool: Executor, write: Callable[[str, Row], Paths], named_rows: Iterable[tuple[str, Row]]
) -> Iterator[tuple[Row, Paths]]:
    """Write rows concurrently, across parts; yield each with its paths, in the order of the rows."""
    pending: deque[tuple[Row, Future[Paths]]] = deque()
    try:
        for name, row in named_rows:
            pending.append((row, pool.submit(write, name, row)))
            # Bounded, so that few rows are in memory.
            if len(pending) == 2 * WRITERS:
                row, written = pending.popleft()
                yield row, written.result()
        for row, written in pending:
            yield row, written.result()
    finally:
        for _, written in pending:
            written.cancel()


@contextmanager
def _writing(out: str) -> Iterator[None]:
    """Turn errors of a disk or store (full, read-only, gone) into one line with the remedy."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error.strerror or error).split())
        kind = type(error) if isinstance(error, AccessError) else AccessError
        raise kind(
            f"{out} cannot be written ({reason}), so the export is incomplete; "
            "fix that and run the same command to resume"
        ) from error

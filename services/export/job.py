"""``lungforge export``: datasets as files for other programs, with their provenance."""

import csv
import dataclasses
import io
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from lungforge.datasets import Dataset, Kind
from lungforge.datasets.sources import SOURCES
from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.sole_writer import sole_writer
from services.common.file_sums import FileSums
from services.common.progress import progress, say
from services.export.config import ExportConfig
from services.export.formats.base import ExportFormat, Files, make_format
from services.export.provenance import describe, find_complete, mark_complete, mark_started
from services.export.rows import Item, items
from services.export.split import VALIDATION, Split, make_split

#: Rows that are encoded and written concurrently: on object storage every file is a round trip.
WRITERS = 8
#: The table that says of every file which row it is of.
TABLE_NAME = "files.csv"
_COLUMNS = ("path", "synthetic", "split", "series_uid", "slice_index", "sample_id", "turned", "dataset")

Paths = list[str]


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """Contents of the export."""

    out: str
    format: str
    rows: int
    """Rows of the datasets."""
    files: dict[str, int]
    """Number of files by what they hold: ct (8 bits), hu, map, ..."""
    classes: dict[str, int]
    """For imagefolder: number of crops by class."""
    boxes: int
    """For coco and yolo: number of nodule boxes."""
    small_boxes: int
    """For coco and yolo: boxes that are left out, as they are smaller than ``min_box_px``."""
    splits: dict[str, int]
    """Rows for training and for validation, where they are split."""
    left_out: int
    """Synthetic rows that are left out, as their patient is for validation."""
    written: bool
    """Whether this run wrote it; False if it was complete already."""

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"read {self.out} with your program; provenance.json there says where each file is from",)


def run(config: ExportConfig) -> ExportResult:
    """Write the files, and ``provenance.json`` last: without it, an export is incomplete.

    Raises:
        InputError: ``data`` names no dataset, or one without images for the format; or the format needs a
            package; or ``out`` holds other files, or another run is writing there.
        ContentError: A dataset is damaged.
        AccessError: ``out`` cannot be written now.
    """
    made = make_format(config)
    datasets = [Dataset.open(uri) for uri in config.data]
    for dataset in datasets:
        _check(dataset, made)
    split = make_split(config, datasets)
    description = describe(datasets, config, made)
    with sole_writer(config.out):
        whole = find_complete(config.out, description)
        written = whole is None
        if whole is None:
            whole = _write(datasets, split, config, made, description)
        else:
            say(f"{config.out} is complete already; nothing to write")
    counted = {field.name for field in dataclasses.fields(ExportResult)} - {"out", "format", "written"}
    return ExportResult(
        out=config.out, format=config.format, written=written, **{name: whole[name] for name in counted}
    )


def _write(
    datasets: Sequence[Dataset],
    split: Split,
    config: ExportConfig,
    made: ExportFormat,
    description: dict[str, Any],
) -> dict[str, Any]:
    """Write all files; returns the provenance."""
    with _writing(config.out):
        mark_started(config.out, description)
    sums = FileSums()
    document = description | _write_rows(datasets, split, config, made, sums)
    with _writing(config.out):
        mark_complete(config.out, document, sums)
    return document


def _check(dataset: Dataset, made: ExportFormat) -> None:
    kind = dataset.manifest.kind
    if kind not in (Kind.SLICES, Kind.SAMPLES, Kind.CROPS):
        raise InputError(f"{dataset.uri} is a {kind.value} dataset; export takes slices, samples or crops")
    if not made.takes(kind):
        raise InputError(f"crops have no {made.crops_lack}; export them with --format imagefolder or png")
    if dataset.rows == 0:
        raise InputError(f"{dataset.uri} has no rows; there is nothing to export")


def _write_rows(
    datasets: Sequence[Dataset], split: Split, config: ExportConfig, made: ExportFormat, sums: FileSums
) -> dict[str, Any]:
    """Write the files of all rows; records them, and returns the counts for the provenance."""
    rows = sum(dataset.rows for dataset in datasets)
    files: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    edits: Counter[str] = Counter()
    models: set[str] = set()
    turned = left_out = 0
    from_luna16 = False
    table = _Table()

    def put(make: Callable[[], Files]) -> Paths:
        with _writing(config.out):
            some = make()
            for path, data in some.items():
                write_bytes_atomic(join_uri(config.out, path), data)
                sums.add(path, data)
        return list(some)

    def write(item: Item | None) -> Paths:
        return [] if item is None else put(lambda: made.encode(item))

    with ThreadPoolExecutor(WRITERS) as pool, progress("export", rows, unit="rows") as advance:
        for item, paths in _in_order(pool, write, items(datasets, split)):
            advance()
            if item is None:
                left_out += 1
                continue
            made.add(item, paths)
            table.add(item, paths)
            files.update(map(made.content_of, paths))
            turned += item.turned
            from_luna16 |= item.from_luna16
            if item.split:
                splits[item.split] += 1
            if item.synthetic:
                edits[item.row["edit"]] += 1
                models.add(item.row["model_sha256"])
    put(lambda: {**made.finish(), TABLE_NAME: table.to_bytes()})
    if config.splits and not splits[VALIDATION]:
        say("no patient is for validation; give a larger --validation-share")
    return {
        "rows": rows,
        "files": dict(files),
        "classes": {},
        "boxes": 0,
        "small_boxes": 0,
        **made.counts(),
        "splits": dict(splits),
        "left_out": left_out,
        "turned": turned,
        "edits": dict(edits),
        "models": sorted(models),
        "sources": SOURCES if from_luna16 else [],
    }


class _Table:
    """``files.csv``: a line for each file of a row."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._lines = csv.writer(self._text, lineterminator="\n")
        self._lines.writerow(_COLUMNS)

    def add(self, item: Item, paths: Paths) -> None:
        words = [
            str(item.synthetic).lower(),
            item.split,
            item.series_uid,
            item.slice_index,
            item.row.get("sample_id", ""),
            str(item.turned).lower(),
            item.dataset.manifest_sha256,
        ]
        self._lines.writerows([path, *words] for path in paths)

    def to_bytes(self) -> bytes:
        return self._text.getvalue().encode()


def _in_order(
    pool: Executor, write: Callable[[Item | None], Paths], rows: Iterable[Item | None]
) -> Iterator[tuple[Item | None, Paths]]:
    """Write rows concurrently, across parts; yield each with its paths, in the order of the rows."""
    pending: deque[tuple[Item | None, Future[Paths]]] = deque()
    try:
        for row in rows:
            pending.append((row, pool.submit(write, row)))
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

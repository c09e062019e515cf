"""Reading the rows of a dataset of slices or samples: an index of a few bytes a row, and images by row group.

The images of a dataset need not fit in memory; the index (which series, which slice, where in which
part) does: about 40 bytes a row.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lungforge.datasets import Dataset, Kind, Part, tensor_values
from lungforge.errors import InputError

#: Footers that are read at a time: on object storage each is a round trip.
_READERS = 8
#: The columns of a sample that say which slice its map is of: what a slice says of itself.
_SOURCE = {"source_series_uid": "series_uid", "source_slice_index": "slice_index"}


@dataclass(frozen=True)
class SliceRow:
    """One slice with its map.

    Attributes:
        series_uid: The scan; of a sample, that of its map.
        subset: The subset of LUNA16 that the scan is in; -1 where unknown.
        slice_index: Which slice of the volume.
        spacing_mm: Of this image, [row, column].
        image: HU, int16 [H, W].
        label: Classes, uint8 [H, W].
        nodules: Dicts of x, y, diameter_px (in this image's pixels) and diameter_mm.
    """

    series_uid: str
    subset: int
    slice_index: int
    spacing_mm: tuple[float, float]
    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    nodules: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class RowIndex:
    """Where the wanted rows of a slices dataset are, in the order of its manifest.

    Attributes:
        dataset: Where they are.
        parts: Its parts that hold wanted rows.
        series_uids: The scans of the wanted rows, sorted.
        size: Height and width of the images, in px.
        part: For each row, which of ``parts``, int32 [N].
        group: The row group in the part, int32 [N].
        row: The row in the row group, int32 [N].
        series: Which of ``series_uids``, int32 [N].
        slice_index: Which slice of the volume, int32 [N].
        nodules: How many nodules the slice shows, int32 [N].
        diameters_mm: Of the nodules of all rows, one after another, float64.
    """

    dataset: Dataset
    parts: tuple[Part, ...]
    series_uids: tuple[str, ...]
    size: tuple[int, int]
    part: NDArray[np.integer]
    group: NDArray[np.integer]
    row: NDArray[np.integer]
    series: NDArray[np.integer]
    slice_index: NDArray[np.integer]
    nodules: NDArray[np.integer]
    diameters_mm: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def chunks(self) -> NDArray[np.int64]:
        """Row group of each row, 0 for the first that has wanted rows, ascending, int64 [N]."""
        if len(self) == 0:
            return np.zeros(0, dtype=np.int64)
        new = (np.diff(self.part) != 0) | (np.diff(self.group) != 0)
        return np.concatenate([[0], np.cumsum(new)])

    def read(self, rows: Sequence[int] | NDArray[np.integer]) -> list[SliceRow]:
        """Read rows, each row group once; several parts at a time.

        Args:
            rows: Positions in this index.

        Returns:
            The rows, in the order asked for.

        Raises:
            ContentError: A part is missing or altered.
            AccessError: A part cannot be read now.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        distinct = np.unique(wanted)
        # Rows of a part are next to one another.
        of_parts = np.split(distinct, np.flatnonzero(np.diff(self.part[distinct])) + 1)
        read: dict[int, SliceRow] = {}
        if len(of_parts) == 1:
            read = self._read_part(distinct)
        else:
            with ThreadPoolExecutor(_READERS) as pool:
                for rows_of_part in pool.map(self._read_part, of_parts):
                    read.update(rows_of_part)
        return [read[position] for position in wanted.tolist()]

    def _read_part(self, rows: NDArray[np.int64]) -> dict[int, SliceRow]:
        """Rows of one part, ascending, by position."""
        if not len(rows):
            return {}
        read: dict[int, SliceRow] = {}
        groups = np.unique(self.group[rows])
        tables = self.dataset.read_groups(self.parts[self.part[rows[0]]], groups.tolist())
        for group, table in zip(groups, tables, strict=True):
            here = rows[self.group[rows] == group]
            read.update(zip(here.tolist(), rows_of(table.take(pa.array(self.row[here]))), strict=True))
        return read


def evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """Positions spread evenly over ``count``, first and last among them; all where there are fewer."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))


def index_rows(dataset: Dataset, subsets: Sequence[int] | None = None) -> RowIndex:
    """Index the rows of some subsets, reading only the small columns.

    Args:
        dataset: Slices, or samples, whose series and slice are those of their maps.
        subsets: The subsets wanted; all when None.

    Raises:
        InputError: There is no such row, or the images are not all of one size.
        ContentError: A part is missing or altered.
        AccessError: A part cannot be read now.
    """
    parts = dataset.manifest.parts
    with ThreadPoolExecutor(_READERS) as pool:
        scans = list(pool.map(lambda part: _scan_part(dataset, part), parts))
    present: set[int] = set()
    columns: dict[str, list[NDArray[np.integer]]] = {
        name: [] for name in ("part", "group", "row", "slice_index", "nodules")
    }
    series: list[str] = []
    diameters: list[NDArray[np.float64]] = []
    sizes: set[tuple[int, int]] = set()
    kept: list[Part] = []
    for part, scan in zip(parts, scans, strict=True):
        present.update(scan.subset.tolist())
        wanted = (
            np.ones(len(scan.row), dtype=bool) if subsets is None else np.isin(scan.subset, list(subsets))
        )
        if not wanted.any():
            continue
        sizes.add(scan.size)
        columns["part"].append(np.full(wanted.sum(), len(kept), dtype=np.int32))
        for name in ("group", "row", "slice_index", "nodules"):
            columns[name].append(getattr(scan, name)[wanted])
        diameters.append(scan.diameters_mm[np.repeat(wanted, scan.nodules)])
        series += [uid for uid, keep in zip(scan.series_uid, wanted, strict=True) if keep]
        kept.append(part)
    if not kept:
        asked = "" if subsets is None else f" of the subsets {sorted(subsets)}"
        raise InputError(f"{dataset.uri} holds no rows{asked}; it has the subsets {sorted(present)}")
    if len(sizes) > 1:
        raise InputError(
            f"{dataset.uri} holds images of the sizes {sorted(sizes)}; "
            "make them one size with `lungforge preprocess --size N`"
        )
    uids, series_indices = np.unique(np.array(series), return_inverse=True)
    return RowIndex(
        dataset=dataset,
        parts=tuple(kept),
        series_uids=tuple(uids.tolist()),
        size=sizes.pop(),
        series=series_indices.astype(np.int32),
        diameters_mm=np.concatenate(diameters),
        **{name: np.concatenate(values).astype(np.int32) for name, values in columns.items()},
    )


@dataclass(frozen=True)
class _PartScan:
    """The small columns of a part, a value a row; ``group`` and ``row`` say where each is."""

    group: NDArray[np.integer]
    row: NDArray[np.integer]
    subset: NDArray[np.integer]
    slice_index: NDArray[np.integer]
    nodules: NDArray[np.integer]
    diameters_mm: NDArray[np.float64]
    series_uid: list[str]
    size: tuple[int, int]


def _scan_part(dataset: Dataset, part: Part) -> _PartScan:
    series_uid, slice_index = "series_uid", "slice_index"
    if dataset.manifest.kind is Kind.SAMPLES:
        series_uid, slice_index = _SOURCE
    with dataset.open_part(part) as (file, size):
        lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        table = file.read(columns=[series_uid, "subset", slice_index, "nodules"])
    return _PartScan(
        group=np.repeat(np.arange(len(lengths)), lengths),
        row=np.concatenate([np.arange(length) for length in lengths] or [np.zeros(0, dtype=int)]),
        subset=table.column("subset").to_numpy(),
        slice_index=table.column(slice_index).to_numpy(),
        nodules=pc.list_value_length(table.column("nodules")).to_numpy(),
        diameters_mm=pc.struct_field(pc.list_flatten(table.column("nodules")), "diameter_mm").to_numpy(),
        series_uid=table.column(series_uid).to_pylist(),
        size=size,
    )


def rows_of(table: pa.Table) -> list[SliceRow]:
    """The rows of a table with the columns of slices or samples; others are ignored."""
    table = table.rename_columns([_SOURCE.get(name, name) for name in table.column_names])
    images, labels = tensor_values(table.column("image")), tensor_values(table.column("label"))
    small = table.select(["series_uid", "subset", "slice_index", "spacing_mm", "nodules"]).to_pylist()
    return [
        SliceRow(
            series_uid=row["series_uid"],
            subset=row["subset"],
            slice_index=row["slice_index"],
            spacing_mm=tuple(row["spacing_mm"]),
            # Copies: a view would keep the whole row group in memory.
            image=image.copy(),
            label=label.copy(),
            nodules=tuple(row["nodules"]),
        )
        for row, image, label in zip(small, images, labels, strict=True)
    ]

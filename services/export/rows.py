"""The rows of an export: upright, each with the name of its files and its side of the split."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lungforge.ct.orientation import upright
from lungforge.datasets import Dataset, Kind, rows_from_table
from lungforge.datasets.sources import from_luna16
from services.export.split import Split

#: Folders of ``imagefolder``, indexed by the class of a crop.
CLASS_FOLDERS = ("no_nodule", "nodule")

Row = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """A row to be exported.

    Attributes:
        name: Prefix of its files' names, which no other row of the export has.
        row: Column name to value. Slices are upright, with their nodules.
        dataset: Where it is from.
        split: ``train`` or ``val``; nothing where there is no split.
        turned: Whether the dataset stores it turned by 180 degrees.
    """

    name: str
    row: Row
    dataset: Dataset
    split: str = ""
    turned: bool = False

    @property
    def kind(self) -> Kind:
        """Kind of the dataset."""
        return self.dataset.manifest.kind

    @property
    def synthetic(self) -> bool:
        """Whether its image was generated."""
        return self.kind is Kind.SAMPLES

    @property
    def series_uid(self) -> str:
        """The scan; of a synthetic slice, that of its map."""
        return str(self.row["source_series_uid" if self.synthetic else "series_uid"])

    @property
    def slice_index(self) -> int:
        """Index of the slice in the scan; of a synthetic slice, that of its map."""
        return int(self.row["source_slice_index" if self.synthetic else "slice_index"])

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Spacing (row, column); slices and samples only."""
        row, column = self.row["spacing_mm"]
        return float(row), float(column)

    @property
    def z_mm(self) -> float:
        """Height of a real slice; 0 of a synthetic one, which lies nowhere."""
        return float(self.row.get("z_mm", 0.0))

    @cached_property
    def marker(self) -> str:
        """What says that the image is synthetic, and how it was made; nothing for a real one."""
        if not self.synthetic:
            return ""
        return (
            f"LungForge {self.dataset.manifest.code_version}, sample {file_safe(self.row['sample_id'])}, "
            f"model sha256 {self.row['model_sha256']}"
        )

    @property
    def origin(self) -> str:
        """The dataset, in words."""
        return f"LungForge {self.kind.value} dataset, manifest sha256 {self.dataset.manifest_sha256}"

    @property
    def from_luna16(self) -> bool:
        """Whether LUNA16's licence holds for it."""
        return from_luna16(self.series_uid)


class UniqueNames:
    """Assigns each row the prefix of its file names, without repeats."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def next(self, kind: Kind, row: Row) -> str:
        """The prefix of the next row, in the order of the datasets."""
        name = first = row_name(kind, row)
        count = 1
        # Two candidates may round to one pixel, and a dataset written by other software may repeat any name.
        while name in self._taken:
            count += 1
            name = f"{first}_{count}"
        self._taken.add(name)
        return name


def row_name(kind: Kind, row: Row) -> str:
    """The prefix of a row's file names: whether it is real, and its identity."""
    match kind:
        case Kind.SAMPLES:
            return f"synthetic_{file_safe(row['sample_id'])}"
        case Kind.CROPS:
            place = f"x{round(row['x'])}_y{round(row['y'])}_{CLASS_FOLDERS[row['label']]}"
            return f"real_{file_safe(row['series_uid'])}_z{row['slice_index']:04d}_{place}"
        case _:
            return f"real_{file_safe(row['series_uid'])}_z{row['slice_index']:04d}"


def file_safe(identifier: str) -> str:
    """An identifier as part of a file name: letters, digits, dashes, dots, underscores; never a path."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", identifier)


def items(datasets: Sequence[Dataset], split: Split) -> Iterator[Item | None]:
    """All rows in order; None for one that the split leaves out.

    Raises:
        ContentError: A dataset is damaged.
        AccessError: It cannot be read now.
    """
    names = UniqueNames()
    for dataset in datasets:
        for part in dataset.parts:
            for table in dataset.iter_batches(part):
                for row in rows_from_table(table):
                    # Named before it may be left out, so that a name does not depend on the split.
                    item = make_item(names.next(dataset.manifest.kind, row), row, dataset)
                    side = split.side_of(item.series_uid, synthetic=item.synthetic)
                    yield None if side is None else Item(item.name, item.row, dataset, side, item.turned)


def make_item(name: str, row: Row, dataset: Dataset) -> Item:
    """A row as it is exported: upright, where its map says which way up that is."""
    if dataset.manifest.kind is Kind.CROPS:
        return Item(name, row, dataset)
    slice_ = upright(row["image"], row["label"], row["nodules"])
    shown = row | {"image": slice_.image, "label": slice_.label, "nodules": slice_.nodules}
    return Item(name, shown, dataset, turned=slice_.turned)

"""Slices with their maps and nodules as a dataset for PyTorch."""

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data

from lungforge.api.resizing import resized
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import RowIndex, SliceRow, index_rows
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator

#: Rows of an item's nodules, at least: so that slices of several datasets go into one batch.
MOST_NODULES: Final = 16
#: Decoded slices that a dataset keeps in memory, in bytes; each process has its own.
_KEPT_BYTES: Final = 2**28


class SliceItem(TypedDict):
    """An item of ``open_slices``, as the default collate function of a ``DataLoader`` takes it."""

    image: Tensor
    """Hounsfield units, float32 [1, H, W]."""
    label: Tensor
    """Classes 0-5 of the map, uint8 [1, H, W]."""
    nodules: Tensor
    """x (column), y (row), diameter_px and diameter_mm of each nodule, float64 [K, 4], in the pixels of this
    image; the rows from ``nodule_count`` on are NaN, so that K is the same for all slices."""
    nodule_count: int
    """How many nodules are listed."""
    spacing_mm: Tensor
    """Distance between pixel centres (row, column), float64 [2]."""
    series_uid: str
    """The scan; of a synthetic slice, that of its map."""
    slice_index: int
    """Which slice of the scan."""
    subset: int
    """The subset of LUNA16; -1 where unknown."""
    corner: Tensor
    """Row and column of the first pixel in the whole slice, int64 [2]: 0 and 0 unless it is a patch."""
    slice_px: Tensor
    """Height and width of the whole slice, int64 [2]."""


def open_slices(
    uri: str,
    subsets: int | Sequence[int] | None = None,
    *,
    size: int | None = None,
    patches: int | None = None,
    transforms: Callable[[SliceItem], Any] | None = None,
    seed: int = 0,
) -> "SlicesDataset":
    """Open slices, real or synthetic, as a PyTorch dataset.

    Args:
        uri: What `lungforge preprocess` or `lungforge sample` made: a folder or URI, or ``lungforge://maps-64``.
        subsets: Subset or subsets of LUNA16 to use; all if not given.
        size: Resize to so many rows and columns, in px; as they are if not given.
        patches: Cut a patch of so many rows and columns from each slice, in px: around a nodule where there
            is one, else around a pixel of the patient; whole slices if not given.
        transforms: Called with each item; what it returns is the item. A function or object that other
            processes can get, where a ``DataLoader`` has workers. MONAI's dictionary transforms fit.
        seed: Decides where patches are cut; another one, such as the epoch, gives others.

    Returns:
        A dataset of ``SliceItem`` dictionaries; ``row`` gives a slice in NumPy arrays.

    Raises:
        InputError: There are no such slices, or an argument is out of range.
        ContentError: The dataset is damaged.
        AccessError: It cannot be read now.

    Example:
        >>> slices = lungforge.open_slices("lungforge://maps-64", subsets=3)
        >>> loader = torch.utils.data.DataLoader(slices, batch_size=8, shuffle=True)
        >>> next(iter(loader))["image"].shape
        torch.Size([8, 1, 64, 64])
    """
    for name, value in (("size", size), ("patches", patches)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; give at least 1 pixel, or None")
    wanted = None if subsets is None else [subsets] if isinstance(subsets, int) else list(subsets)
    if wanted is not None and not wanted:
        raise InputError("subsets is empty; give at least one, or None for all")
    dataset = Dataset.open(uri)
    if dataset.manifest.kind not in (Kind.SLICES, Kind.SAMPLES):
        raise InputError(
            f"{dataset.uri}: a {dataset.manifest.kind.value} dataset; give one that `lungforge preprocess` "
            "or `lungforge sample` made"
        )
    index = index_rows(dataset, wanted)
    side = min(index.size) if size is None else size
    if patches is not None and patches > side:
        raise InputError(f"patches is {patches} px and the slices have {side}; give a smaller one")
    return SlicesDataset(index, size=size, patches=patches, transforms=transforms, seed=seed)


class SlicesDataset(data.Dataset[Any]):
    """Slices with their maps and nodules, in the order of the dataset; made by ``open_slices``.

    Any slice can be read at any time. What is read is compared with the checksums of the dataset. Plain data:
    it goes to the workers of a ``DataLoader`` as it is.

    Attributes:
        index: Where the slices are.
    """

    def __init__(
        self,
        index: RowIndex,
        *,
        size: int | None,
        patches: int | None,
        transforms: Callable[[SliceItem], Any] | None,
        seed: int,
    ) -> None:
        self.index = index
        self._size, self._patches, self._transforms, self._seed = size, patches, transforms, seed
        self._most_nodules = max(MOST_NODULES, int(index.nodules.max(initial=0)))
        self._chunks = index.chunks
        self._kept: OrderedDict[int, SliceRow] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        """How many slices there are."""
        return len(self.index)

    def __getitem__(self, position: int) -> Any:
        """The item at a position, after the transforms."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Several items at once, as a ``DataLoader`` asks for them: each row group is read once."""
        items = [self._item(*whole_and_cut) for whole_and_cut in self._cut_rows(positions)]
        return items if self._transforms is None else [self._transforms(item) for item in items]

    def row(self, position: int) -> SliceRow:
        """A slice in NumPy arrays: resized and cut like the item at this position, before the transforms.

        Example:
            >>> slices = lungforge.open_slices("lungforge://maps-64", subsets=3)
            >>> len(slices.row(0).nodules)
            1
        """
        return self.rows([position])[0]

    def rows(self, positions: Iterable[int] | None = None) -> list[SliceRow]:
        """Several slices, or all of them; as ``row`` gives each."""
        wanted = range(len(self)) if positions is None else list(positions)
        return [cut for _, cut, _ in self._cut_rows(wanted)]

    @property
    def diameters_mm(self) -> NDArray[np.float64]:
        """Diameters of the nodules of all slices, [N]: what inserted nodules can be sized by."""
        return self.index.diameters_mm

    def _cut_rows(self, positions: Sequence[int]) -> list[tuple[SliceRow, SliceRow, tuple[int, int]]]:
        """Each whole slice, what is cut from it, and where."""
        cut = []
        for row in self._read([self._checked(position) for position in positions]):
            whole = row if self._size is None else resized(row, self._size)
            corner, part = (0, 0), whole
            if self._patches is not None:
                generator = numpy_generator(self._seed, "patch", row.series_uid, row.slice_index)
                corner = patch_corner(whole, self._patches, generator)
                part = patch_at(whole, self._patches, corner)
            cut.append((whole, part, corner))
        return cut

    def _checked(self, position: int) -> int:
        place = operator.index(position)
        if not -len(self) <= place < len(self):
            raise IndexError(f"there is no slice {place}; there are {len(self)}")
        return place % len(self)

    def _read(self, positions: list[int]) -> list[SliceRow]:
        """Rows of the dataset, from memory where they are kept."""
        missing = [position for position in positions if position not in self._kept]
        rows: dict[int, SliceRow] = {}
        if missing:
            # The others of the row group are decoded with them, and will be asked for, too.
            group = np.flatnonzero(np.isin(self._chunks, self._chunks[missing])).tolist()
            rows = dict(zip(group, self.index.read(group), strict=True))
        wanted = [rows[position] if position in rows else self._kept[position] for position in positions]
        for position, row in (rows | dict(zip(positions, wanted, strict=True))).items():
            if position not in self._kept:
                self._kept_bytes += _bytes(row)
            self._kept[position] = row
            self._kept.move_to_end(position)
        while self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= _bytes(self._kept.popitem(last=False)[1])
        return wanted

    def _item(self, whole: SliceRow, row: SliceRow, corner: tuple[int, int]) -> SliceItem:
        nodules = torch.full((self._most_nodules, 4), torch.nan, dtype=torch.float64)
        for place, nodule in enumerate(row.nodules):
            values = [nodule[name] for name in ("x", "y", "diameter_px", "diameter_mm")]
            nodules[place] = torch.tensor(values, dtype=torch.float64)
        return SliceItem(
            image=torch.from_numpy(row.image.astype(np.float32))[None],
            # A copy: what a transform does to the item stays in the item.
            label=torch.from_numpy(row.label.copy())[None],
            nodules=nodules,
            nodule_count=len(row.nodules),
            spacing_mm=torch.tensor(row.spacing_mm, dtype=torch.float64),
            series_uid=row.series_uid,
            slice_index=row.slice_index,
            subset=row.subset,
            corner=torch.tensor(corner),
            slice_px=torch.tensor(whole.label.shape),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict(), "_kept_bytes": 0}

    def __repr__(self) -> str:
        height, width = self.index.size
        return f"<{len(self)} slices of {height} x {width} px, {self.index.dataset.uri}>"


def _bytes(row: SliceRow) -> int:
    return row.image.nbytes + row.label.nbytes

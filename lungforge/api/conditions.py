"""What images are sampled from, whatever way it is given: slices, their items, or maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lungforge.api.edits import EditedSlice, as_row, map_name, require_map
from lungforge.api.slices import SliceItem, SlicesDataset
from lungforge.ct.edits import EditName
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.models.base import Identity
from lungforge.models.identity import image_identity
from lungforge.models.place import place_of

#: What images are sampled from; see ``Model.sample``.
Maps: TypeAlias = (
    NDArray[np.uint8] | Tensor | SlicesDataset | SliceRow | SliceItem | Sequence[SliceRow | SliceItem]
)


@dataclass(frozen=True)
class Condition:
    """What an image is sampled from.

    Attributes:
        label: The map, [H, W].
        name: The scan that it is of, or the name of a map of no scan.
        slice_index: Its slice.
        edit: What was done to the map.
        place: Where the image is, as ``lungforge.models.place`` has it; None where that is not known.
        edited: The slice with the edited map; None where there is none.
    """

    label: NDArray[np.uint8]
    name: str
    slice_index: int
    edit: EditName
    place: NDArray[np.float32] | None
    edited: EditedSlice | None

    def identity(self, seed: int, replicate: int, *, inpainted: bool) -> Identity:
        """The identity of one of its images."""
        return image_identity(seed, self.name, self.slice_index, replicate, self.edit, inpainted=inpainted)


def conditions_of(maps: Any, spacing_mm: tuple[float, float] | None) -> list[Condition]:
    """What each image is sampled from, whatever way the maps are given."""
    if isinstance(maps, (np.ndarray, Tensor)):
        labels = maps.detach().cpu().numpy() if isinstance(maps, Tensor) else maps
        if labels.ndim == 4 and labels.shape[1] == 1:  # a batch of a DataLoader
            labels = labels[:, 0]
        if labels.ndim != 3:
            raise InputError(f"the maps have the shape {labels.shape}; give [maps, height, width]")
        return [_of_map(require_map(label), spacing_mm) for label in labels]
    if spacing_mm is not None:
        raise InputError("spacing_mm is for maps; slices have their own")
    return [_of_slice(each) for each in _each(maps)]


def _each(slices: Any) -> Iterator[Any]:
    if isinstance(slices, (SliceRow, Mapping)):
        yield slices
    elif isinstance(slices, SlicesDataset):
        yield from slices.rows()
    else:
        yield from slices


def _of_map(label: NDArray[np.uint8], spacing_mm: tuple[float, float] | None) -> Condition:
    shape = (label.shape[0], label.shape[1])
    place = None if spacing_mm is None else place_of(spacing_mm, shape, shape)
    return Condition(label, map_name(label), 0, "none", place, None)


def _of_slice(given: SliceRow | SliceItem) -> Condition:
    row = as_row(given)
    shape = (row.label.shape[0], row.label.shape[1])
    whole, corner = shape, (0, 0)
    if not isinstance(given, SliceRow):
        (height, width), (top, left) = given["slice_px"].tolist(), given["corner"].tolist()
        whole, corner = (height, width), (top, left)
    place = place_of(row.spacing_mm, whole, shape, corner)
    edited = row if isinstance(row, EditedSlice) else None
    edit: EditName = "none" if edited is None else edited.edit
    return Condition(row.label, row.series_uid, row.slice_index, edit, place, edited)

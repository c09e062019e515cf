"""What the downstream tasks learn from and are tested on: cut from slices and from samples in one way."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lungforge.ct.classes import NODULE
from lungforge.ct.hard_negatives import hardest_negative, window_around
from lungforge.ct.io.patient_table import scan_of
from lungforge.ct.nodules import Box, nodule_boxes
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.patches import cut_patch
from lungforge.datasets.slices import SliceRow, rows_of
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator

#: Side of a crop for classification, in px, as published.
CROP_PX: Final = 32
#: Places that are tried for a patch without a nodule.
_TRIES: Final = 20


@dataclass(frozen=True)
class Examples:
    """Pictures of one origin, and what is true of them.

    Attributes:
        pictures: HU, int16 ``[N, H, W]``.
        boxes: Of each picture's nodules, in its pixels.
        diameters_mm: Of those nodules.
        pixel_mm: Side of a pixel of each picture: the geometric mean of its two spacings.
        crops: HU, int16 ``[M, 32, 32]``, cut from the pictures.
        crop_is_nodule: bool ``[M]``.
        crop_pictures: Which picture each crop is of, int64 ``[M]``.
        scans: The scan of each picture.
    """

    pictures: NDArray[np.int16]
    boxes: tuple[tuple[Box, ...], ...]
    diameters_mm: tuple[tuple[float, ...], ...]
    pixel_mm: tuple[float, ...]
    crops: NDArray[np.int16]
    crop_is_nodule: NDArray[np.bool_]
    crop_pictures: NDArray[np.int64]
    scans: tuple[str, ...]

    def with_nodules(self) -> NDArray[np.int64]:
        """Indices of the pictures that show a nodule."""
        return np.flatnonzero([len(boxes) > 0 for boxes in self.boxes])

    def of_scans(self, scans: frozenset[str]) -> "Examples":
        """The pictures of some scans, and their crops."""
        kept = np.asarray([scan in scans for scan in self.scans], dtype=bool)
        chosen = np.flatnonzero(kept).tolist()
        inside = kept[self.crop_pictures]
        return Examples(
            pictures=self.pictures[kept],
            boxes=tuple(self.boxes[index] for index in chosen),
            diameters_mm=tuple(self.diameters_mm[index] for index in chosen),
            pixel_mm=tuple(self.pixel_mm[index] for index in chosen),
            crops=self.crops[inside],
            crop_is_nodule=self.crop_is_nodule[inside],
            crop_pictures=(np.cumsum(kept) - 1)[self.crop_pictures[inside]],
            scans=tuple(self.scans[index] for index in chosen),
        )


def examples_of(rows: Iterable[SliceRow]) -> Examples:
    """Cut examples from slices, real or synthetic.

    Each nodule gives a crop, and each picture the place in its lungs that is most like a nodule and is none.

    Raises:
        InputError: There are no slices.
    """
    pictures: list[NDArray[np.int16]] = []
    boxes: list[tuple[Box, ...]] = []
    diameters: list[tuple[float, ...]] = []
    pixels: list[float] = []
    crops: list[NDArray[np.int16]] = []
    kinds: list[bool] = []
    scans: list[str] = []
    owners: list[int] = []
    for index, row in enumerate(rows):
        pictures.append(row.image)
        boxes.append(tuple(nodule_boxes(row.label, row.nodules)))
        diameters.append(tuple(nodule["diameter_mm"] for nodule in row.nodules))
        pixels.append(math.sqrt(row.spacing_mm[0] * row.spacing_mm[1]))
        scans.append(scan_of(row.series_uid))
        places = [(nodule["y"], nodule["x"], True) for nodule in row.nodules]
        other = hardest_negative(row.image, row.label, row.spacing_mm, CROP_PX)
        if other is not None:
            places.append((*other, False))
        for y, x, is_nodule in places:
            top, left = window_around(y, x, CROP_PX, row.image.shape)
            crops.append(row.image[top : top + CROP_PX, left : left + CROP_PX])
            kinds.append(is_nodule)
            owners.append(index)
    if not pictures:
        raise InputError("there is no slice to cut examples from; choose other subsets")
    return Examples(
        pictures=np.stack(pictures),
        boxes=tuple(boxes),
        diameters_mm=tuple(diameters),
        pixel_mm=tuple(pixels),
        crops=np.stack(crops) if crops else np.zeros((0, CROP_PX, CROP_PX), np.int16),
        crop_is_nodule=np.asarray(kinds, dtype=bool),
        crop_pictures=np.asarray(owners, dtype=np.int64),
        scans=tuple(scans),
    )


def read_rows(dataset: Dataset, subsets: Sequence[int] | None) -> Iterator[SliceRow]:
    """The rows of a slices or samples dataset, one after another; of a sample, those of its source.

    Args:
        dataset: Where they are.
        subsets: Subsets wanted; all when None.
    """
    names = {"series_uid": "series_uid", "slice_index": "slice_index"}
    if dataset.manifest.kind is Kind.SAMPLES:
        names = {f"source_{name}": name for name in names}
    columns = [*names, "subset", "spacing_mm", "nodules", "image", "label"]
    for part in dataset.parts:
        for table in dataset.iter_batches(part, columns=columns):
            if subsets is not None:
                table = table.filter(pc.is_in(table.column("subset"), value_set=pa.array(subsets, pa.int8())))
            yield from rows_of(table.rename_columns(names))


def as_patches(
    rows: Iterable[SliceRow], patch: int | None, seed: int, *, copy: int, without_nodules: bool = False
) -> Iterator[SliceRow]:
    """Cut a patch from each slice, as sampling does, or leave the slices whole.

    Args:
        rows: The slices.
        patch: Side in px; None for whole slices.
        seed: Of the job.
        copy: Index of the patch; each is cut elsewhere.
        without_nodules: Cut where no nodule is, away from those of the slice; slices without such a place in
            a few tries are left out. Whole slices that show a nodule are left out.
    """
    for row in rows:
        if patch is None:
            if not (without_nodules and row.nodules):
                yield row
            continue
        kind = "healthy" if without_nodules else "nodule"
        generator = numpy_generator(seed, "patch", row.series_uid, row.slice_index, copy, kind)
        if not without_nodules:
            yield cut_patch(row, patch, generator)
            continue
        cut = _healthy_patch(row, patch, generator)
        if cut is not None:
            yield cut


def _healthy_patch(row: SliceRow, patch: int, generator: np.random.Generator) -> SliceRow | None:
    healthy = dataclasses.replace(row, nodules=())
    for _ in range(_TRIES):
        cut = cut_patch(healthy, patch, generator)
        if not (cut.label == NODULE).any():
            return cut
    return None

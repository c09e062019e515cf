"""Patches at native resolution: small lesions keep their pixels, and small machines can train on them."""

import dataclasses
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lungforge.ct.classes import BACKGROUND
from lungforge.datasets.slices import SliceRow, rows_of
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator

#: Of HU or of classes.
Value = TypeVar("Value", bound=np.generic)


def cut_patch(row: SliceRow, size: int, generator: np.random.Generator) -> SliceRow:
    """Cut a square from a slice, at a place of :func:`patch_corner`; as :func:`patch_at`."""
    return patch_at(row, size, patch_corner(row, size, generator))


def patch_corner(row: SliceRow, size: int, generator: np.random.Generator) -> tuple[int, int]:
    """Choose where to cut a square from a slice.

    Where there are nodules, one of them is anywhere in the patch, its centre as far from the edge as its
    radius where that fits; where there are none, the patch is around a random pixel of the patient.

    Args:
        row: The slice.
        size: Side of the patch, in px.
        generator: Decides which nodule and where.

    Returns:
        Row and column of the patch's first pixel.

    Raises:
        InputError: The slice is smaller than the patch.
    """
    height, width = row.image.shape
    if size > min(height, width):
        raise InputError(f"patch is {size} px and the images are {height} x {width}; give a smaller patch")
    if row.nodules:
        nodule = row.nodules[generator.integers(len(row.nodules))]
        margin = min(nodule["diameter_px"] / 2, (size - 1) / 2)
        offset = generator.uniform(margin, size - 1 - margin, size=2)
        corner = np.array([nodule["y"], nodule["x"]]) - offset
    else:
        patient = np.argwhere(row.label != BACKGROUND)
        centre = patient[generator.integers(len(patient))] if len(patient) else np.array([height, width]) / 2
        corner = centre - size / 2
    top, left = np.clip(np.rint(corner).astype(int), 0, [height - size, width - size]).tolist()
    return top, left


def patch_at(row: SliceRow, size: int, corner: tuple[int, int]) -> SliceRow:
    """Cut a square from a slice.

    Args:
        row: The slice.
        size: Side of the patch, in px.
        corner: Row and column of its first pixel.

    Returns:
        The same slice, cut: ``nodules`` are those whose centre is in the patch, in its pixels.
    """
    top, left = corner
    moved = [{**nodule, "x": nodule["x"] - left, "y": nodule["y"] - top} for nodule in row.nodules]
    inside = (-0.5, size - 0.5)
    return dataclasses.replace(
        row,
        image=row.image[top : top + size, left : left + size],
        label=row.label[top : top + size, left : left + size],
        nodules=tuple(
            nodule
            for nodule in moved
            if inside[0] <= nodule["x"] <= inside[1] and inside[0] <= nodule["y"] <= inside[1]
        ),
    )


@dataclasses.dataclass(frozen=True)
class Cut:
    """How real slices are cut.

    Attributes:
        size: Side of a patch, in px.
        seed: Of the job; with the slice it decides where.
    """

    size: int
    seed: int

    def corners(self, table: pa.Table) -> NDArray[np.int64]:
        """Where the patch of each of some slices is: row and column of its first pixel, int64 ``[N, 2]``."""
        corners = [
            patch_corner(row, self.size, numpy_generator(self.seed, "patch", row.series_uid, row.slice_index))
            for row in rows_of(table)
        ]
        return np.asarray(corners, dtype=np.int64).reshape(-1, 2)


def cut_out(images: NDArray[Value], corners: NDArray[np.int64], cut: Cut | None) -> NDArray[Value]:
    """The patch of each image ``[N, H, W]``: ``[N, P, P]``; the images themselves without a cut."""
    if cut is None:
        return images
    patches = [
        image[top : top + cut.size, left : left + cut.size]
        for image, (top, left) in zip(images, corners.tolist(), strict=True)
    ]
    return np.stack(patches) if patches else np.zeros((0, cut.size, cut.size), images.dtype)

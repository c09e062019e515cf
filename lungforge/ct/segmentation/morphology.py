"""In-plane morphology: dilation, erosion, closing of lungs, refinement of outlines."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_Scalar = TypeVar("_Scalar", bound=np.generic)

_CLOSING_MM = 6.0
"""Radius of the closing, which includes vessels and nodules at the pleura in the lung."""
_LARGEST_HOLE_MM2 = 1000.0
"""Tissue surrounded by lung in a slice is vessel or nodule up to this area, else the dome of the liver."""


def dilate(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Dilate each slice by a square of ``2 * pixels + 1`` pixels."""
    dilated = mask.view(np.uint8)
    for axis in (1, 2):
        dilated = ndimage.maximum_filter1d(dilated, 2 * pixels + 1, axis, mode="constant")
    return dilated.view(bool)


def erode(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Erode each slice by a square of ``2 * pixels + 1`` pixels; the image edge does not erode."""
    eroded = mask.view(np.uint8)
    for axis in (1, 2):
        eroded = ndimage.minimum_filter1d(eroded, 2 * pixels + 1, axis, mode="nearest")
    return eroded.view(bool)


def close_lung(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Close a lung with a disc and fill small holes, slice by slice.

    Args:
        mask: One lung, shape [Z, H, W].
        spacing_mm: Pixel spacing (row, column).
    """
    closed = np.zeros_like(mask)
    radius = round(_CLOSING_MM / spacing_mm[0])
    hole = _LARGEST_HOLE_MM2 / (spacing_mm[0] * spacing_mm[1])
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(mask[index].any(axis=axis)) for axis in (1, 0))
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        plane = np.pad(mask[index][window], radius + 1)
        near = ndimage.distance_transform_edt(~plane) <= radius
        plane = ndimage.distance_transform_edt(near) > radius
        outside, count = ndimage.label(~plane)
        sizes = np.bincount(outside.ravel(), minlength=count + 1)
        plane |= (sizes < hole)[outside]
        closed[index][window] = plane[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    return closed | mask


def refine_outline(
    classes: NDArray[np.uint8], air: NDArray[np.bool_], fine_air: NDArray[np.bool_], factor: int
) -> NDArray[np.uint8]:
    """Upsample classes to the full grid, with outlines that follow the air there.

    Args:
        classes: Classes on the coarse grid, 0 for none, shape [Z, h, w].
        air: Mask of air on the coarse grid, same shape.
        fine_air: Mask of air on the full grid, shape [Z, H, W].
        factor: Pixels of the full grid per pixel of the coarse one, along each axis.

    Returns:
        Classes on the full grid, shape [Z, H, W].
    """
    shape = fine_air.shape
    dilated = classes
    for axis in (1, 2):
        dilated = ndimage.maximum_filter1d(dilated, 3, axis, mode="constant")
    core = erode(classes > 0, 1)

    def upsampled(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        return array.repeat(factor, axis=1).repeat(factor, axis=2)[:, : shape[1], : shape[2]]

    rim_air = (classes > 0) & air & ~core
    fine_classes = upsampled(np.where(classes > 0, classes, dilated))
    sure = upsampled((classes > 0) & ~rim_air)
    maybe = upsampled(rim_air | ((classes == 0) & (dilated > 0)))
    return np.where(sure | (maybe & fine_air), fine_classes, 0).astype(np.uint8)

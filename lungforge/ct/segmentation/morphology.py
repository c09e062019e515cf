"""Growing, wearing away, closing and redrawing masks, slice by slice."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_CLOSING_MM = 6.0
"""Vessels and nodules at the pleura are taken into the lung if a disc of this radius cannot reach them."""
_LARGEST_HOLE_MM2 = 1000.0
"""Tissue that lung surrounds in a slice is vessel or nodule up to this size, else the dome of the liver."""


def grow(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Grow within each slice by a square of so many pixels."""
    grown = mask.view(np.uint8)
    for axis in (1, 2):
        grown = ndimage.maximum_filter1d(grown, 2 * pixels + 1, axis, mode="constant")
    return grown.view(bool)


def wear(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Wear away, within each slice, a square of so many pixels; the edge of the picture does not count."""
    shrunk = mask.view(np.uint8)
    for axis in (1, 2):
        shrunk = ndimage.minimum_filter1d(shrunk, 2 * pixels + 1, axis, mode="nearest")
    return shrunk.view(bool)


def close_lung(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Take in what a disc cannot reach from outside and small holes, slice by slice.

    Args:
        mask: One lung, shape [Z, H, W].
        spacing_mm: Distance of pixels within a slice: row, column.
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


def redraw(
    classes: NDArray[np.uint8], air: NDArray[np.bool_], fine_air: NDArray[np.bool_], factor: int
) -> NDArray[np.uint8]:
    """Bring the classes to the full grid, their outlines drawn where air ends there.

    Args:
        classes: Classes on the coarse grid, 0 for none, shape [Z, h, w].
        air: What is air on the coarse grid, same shape.
        fine_air: What is air on the full grid, shape [Z, H, W].
        factor: How many pixels of the full grid make one of the coarse, along a row and along a column.

    Returns:
        Shape [Z, H, W].
    """
    shape = fine_air.shape
    grown = classes
    for axis in (1, 2):
        grown = ndimage.maximum_filter1d(grown, 3, axis, mode="constant")
    core = wear(classes > 0, 1)

    def fine(array: NDArray) -> NDArray:
        return array.repeat(factor, axis=1).repeat(factor, axis=2)[:, : shape[1], : shape[2]]

    rim_air = (classes > 0) & air & ~core
    fine_classes = fine(np.where(classes > 0, classes, grown))
    sure = fine((classes > 0) & ~rim_air)
    maybe = fine(rim_air | ((classes == 0) & (grown > 0)))
    return np.where(sure | (maybe & fine_air), fine_classes, 0).astype(np.uint8)

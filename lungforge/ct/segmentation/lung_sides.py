"""Separation of left and right lung, also where they touch."""

import numpy as np
from numpy.typing import NDArray

_BOTH_LUNGS = 0.4
"""A component wider than this share of the body may be both lungs."""
_LEAST_SHARE = 0.12
"""Each of two lungs has at least this share of the voxels, on its side of the body."""
_LONGEST_CUT = 0.35
"""Lungs touch along less than this share of their height; a longer cut splits a single lung."""
_STEEPEST = 2
"""Maximum shift of the cut, in columns, from row to row."""


def left_lung_mask(
    mask: NDArray[np.bool_],
    hu: NDArray[np.int16],
    leftward_mm: NDArray[np.float64],
    start_mm: float,
    body_width_mm: float,
) -> NDArray[np.bool_]:
    """The left lung's voxels of a component: all, none, or those left of a cut if it is both lungs.

    Args:
        mask: The component in its bounding box, shape [Z, H, W].
        hu: Hounsfield units of the same voxels.
        leftward_mm: Displacement to the patient's left per voxel, along z, y and x.
        start_mm: Position of the first voxel of the box, to the left of the middle of the body.
        body_width_mm: Width of the body.

    Returns:
        Mask of the same shape; undefined outside the component.
    """
    if abs(leftward_mm[1]) > abs(leftward_mm[2]):  # the rows run from side to side: transpose
        turned = leftward_mm[[0, 2, 1]]
        return left_lung_mask(
            mask.swapaxes(1, 2), hu.swapaxes(1, 2), turned, start_mm, body_width_mm
        ).swapaxes(1, 2)
    place = np.argwhere(mask) @ leftward_mm + start_mm
    whole = np.full(mask.shape, place.mean() > 0)
    share = (place > 0).mean()
    if min(share, 1 - share) < _LEAST_SHARE or np.ptp(place) < _BOTH_LUNGS * body_width_mm:
        return whole
    cut = separating_path(mask, hu)[..., None]
    columns = np.arange(mask.shape[2])
    is_left = columns > cut if leftward_mm[2] > 0 else columns < cut
    share = is_left[mask].mean()
    crossed = np.take_along_axis(mask, cut, axis=2).sum()
    if min(share, 1 - share) < _LEAST_SHARE or crossed > _LONGEST_CUT * mask.any(axis=2).sum():
        return whole
    return is_left


def separating_path(mask: NDArray[np.bool_], hu: NDArray[np.int16]) -> NDArray[np.intp]:
    """The minimum-cost path from front to back in each slice, which separates the lungs.

    Where the lungs touch, their pleurae form a thin line that is brighter than lung; elsewhere the path runs
    through the mediastinum at no cost. Computed by dynamic programming, row by row in all slices at once.

    Args:
        mask: Both lungs as one component, in their bounding box, shape [Z, H, W].
        hu: Hounsfield units of the same voxels.

    Returns:
        Column of the path in each row, shape [Z, H].
    """
    depth, height, width = mask.shape
    first, last = round(width * 0.25), max(round(width * 0.75), round(width * 0.25) + 1)
    darkness = np.clip((-500.0 - hu[:, :, first:last]) / 400, 0, 1)
    off_centre = np.abs(np.arange(first, last) - width / 2) / width
    cost = (np.where(mask[:, :, first:last], 0.3 + darkness, 0) + 0.15 * off_centre).astype(np.float32)
    moves = range(-_STEEPEST, _STEEPEST + 1)
    total = cost[:, 0]
    origin = np.zeros((height, depth, last - first), np.int8)
    for row in range(1, height):
        padded = np.pad(total, ((0, 0), (_STEEPEST, _STEEPEST)), constant_values=np.inf)
        options = np.stack(
            [
                padded[:, move + _STEEPEST : move + _STEEPEST + last - first] + 0.02 * abs(move)
                for move in moves
            ]
        )
        origin[row] = options.argmin(axis=0) - _STEEPEST
        total = options.min(axis=0) + cost[:, row]
    path = np.empty((depth, height), np.intp)
    path[:, -1] = total.argmin(axis=1)
    for row in range(height - 1, 0, -1):
        path[:, row - 1] = path[:, row] + origin[row, np.arange(depth), path[:, row]]
    return path + first

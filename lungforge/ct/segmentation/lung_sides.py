"""Telling the left lung from the right one, also where they touch."""

import numpy as np
from numpy.typing import NDArray

_BOTH_LUNGS = 0.4
"""A piece wider than this part of the body may be both lungs."""
_LEAST_SHARE = 0.12
"""Of two lungs, each has at least this part of the voxels, and lies on its side of the body."""
_LONGEST_CUT = 0.35
"""Two lungs that touch do so along less than this part of their height; a longer cut parts a single lung."""
_STEEPEST = 2
"""Columns that the cut may move aside from row to row."""


def find_left(
    mask: NDArray[np.bool_],
    hu: NDArray[np.int16],
    leftward_mm: NDArray[np.float64],
    start_mm: float,
    body_width_mm: float,
) -> NDArray[np.bool_]:
    """Which voxels of a piece are left lung: all, none, or those to the left of a cut when both lungs touch.

    Args:
        mask: The piece in its bounding box, shape [Z, H, W].
        hu: Hounsfield units of the same voxels.
        leftward_mm: How far to the patient's left one voxel leads, along z, y and x.
        start_mm: How far to the left of the middle of the body the first voxel of the box lies.
        body_width_mm: Width of the body.

    Returns:
        Same shape; what it says outside of the piece has no meaning.
    """
    if abs(leftward_mm[1]) > abs(leftward_mm[2]):  # the rows lead from side to side: turn the picture
        turned = leftward_mm[[0, 2, 1]]
        return find_left(mask.swapaxes(1, 2), hu.swapaxes(1, 2), turned, start_mm, body_width_mm).swapaxes(
            1, 2
        )
    place = np.argwhere(mask) @ leftward_mm + start_mm
    whole = np.full(mask.shape, place.mean() > 0)
    share = (place > 0).mean()
    if min(share, 1 - share) < _LEAST_SHARE or np.ptp(place) < _BOTH_LUNGS * body_width_mm:
        return whole
    cut = find_cut(mask, hu)[..., None]
    columns = np.arange(mask.shape[2])
    is_left = columns > cut if leftward_mm[2] > 0 else columns < cut
    share = is_left[mask].mean()
    crossed = np.take_along_axis(mask, cut, axis=2).sum()
    if min(share, 1 - share) < _LEAST_SHARE or crossed > _LONGEST_CUT * mask.any(axis=2).sum():
        return whole
    return is_left


def find_cut(mask: NDArray[np.bool_], hu: NDArray[np.int16]) -> NDArray[np.intp]:
    """The way from front to back in each slice that crosses the least and the brightest lung.

    Where both lungs touch, their pleurae make a thin line that is brighter than the lung; elsewhere the way
    leads through the mediastinum at no cost. Found by dynamic programming, row by row in all slices at once.

    Args:
        mask: Both lungs as one piece, cut out of the picture, shape [Z, H, W].
        hu: Hounsfield units of the same voxels.

    Returns:
        The column of the way in each row, shape [Z, H].
    """
    depth, height, width = mask.shape
    first, last = round(width * 0.25), max(round(width * 0.75), round(width * 0.25) + 1)
    darkness = np.clip((-500.0 - hu[:, :, first:last]) / 400, 0, 1)
    aside = np.abs(np.arange(first, last) - width / 2) / width
    cost = (np.where(mask[:, :, first:last], 0.3 + darkness, 0) + 0.15 * aside).astype(np.float32)
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
    way = np.empty((depth, height), np.intp)
    way[:, -1] = total.argmin(axis=1)
    for row in range(height - 1, 0, -1):
        way[:, row - 1] = way[:, row] + origin[row, np.arange(depth), way[:, row]]
    return way + first

"""Where in the real slices a patch may have been copied from: all positions are compared, coarsely.

The patch and the slices are reduced so far that a patch has 16 pixels a side. Their textures are correlated
at every position by a matrix product; what comes out is the position in each slice to look at closely.
"""

from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.near_duplicates import MAX_SHIFT_PX
from lungforge.metrics.textures import LEAST_LEVELS, reduce, texture

#: Pixels of a reduced patch a side, at least.
_CELLS: Final = 16
#: Those at its edge are left out: their texture depends on what lies beyond.
_RIM: Final = 2
#: Slices that are searched at a time: memory holds all their positions.
_SLICES_AT_A_TIME: Final = 16


def cell_px(size: int) -> int:
    """Side of a cell, in px, in which patches of a size are looked up."""
    return max(1, size // _CELLS)


def cells(grey: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The textures of slices or patches ``[N, H, W]`` uint8 in cells: ``[N, h, w]`` float32.

    Args:
        grey: The images.
        size: Side of the patches that are looked up, in px.
    """
    return texture(reduce(grey, cell_px(size)))


def best_positions(
    patches: NDArray[np.float32],
    slices: NDArray[np.float32],
    size: int,
    mirrored: tuple[bool, ...] = (False, True),
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The position in each slice that is most like each patch, mirrored or not.

    Args:
        patches: In cells, ``[B, p, p]``.
        slices: In cells, ``[M, h, w]``.
        size: Side of the patches, in px.
        mirrored: Whether they are looked up as they are, mirrored, or both.

    Returns:
        The correlations there ``[B, M]``, and row and column of the first pixel ``[B, M, 2]``, in px.
    """
    side = patches.shape[1] - 2 * _RIM
    inner = patches[:, _RIM:-_RIM, _RIM:-_RIM]
    views = [inner[:, :, ::-1] if flip else inner for flip in mirrored]
    wanted = np.concatenate(views).reshape(-1, side * side)
    wanted = wanted - wanted.mean(axis=1, keepdims=True)
    wanted /= np.sqrt((wanted**2).sum(axis=1, keepdims=True) + _least_energy(side))
    # A patch from the edge of a slice that was moved reaches beyond it.
    beyond = -(-MAX_SHIFT_PX // cell_px(size))
    height, width = (edge + 2 * beyond - patches.shape[1] + 1 for edge in slices.shape[1:])
    correlations = np.full((len(patches), len(slices)), -1.0, dtype=np.float32)
    corners = np.zeros((len(patches), len(slices), 2), dtype=np.int64)
    if min(height, width) < 1:
        return correlations, corners
    for first in range(0, len(slices), _SLICES_AT_A_TIME):
        some = slices[first : first + _SLICES_AT_A_TIME]
        inside = np.pad(some, ((0, 0), (beyond, beyond), (beyond, beyond)))[:, _RIM:-_RIM, _RIM:-_RIM]
        windows = np.lib.stride_tricks.sliding_window_view(inside, (side, side), axis=(1, 2))
        windows = windows.reshape(-1, side * side)
        lengths = np.sqrt(windows.var(axis=1) * side * side + _least_energy(side))
        found = (wanted @ windows.T / lengths).reshape(len(views), len(patches), len(some), -1).max(axis=0)
        places = found.argmax(axis=2)
        here = slice(first, first + len(some))
        correlations[:, here] = np.take_along_axis(found, places[..., None], axis=2)[..., 0]
        corners[:, here] = (np.stack(np.divmod(places, width), axis=-1) - beyond) * cell_px(size)
    return correlations, corners


def best_positions_on_grids(
    greys: NDArray[np.uint8], slices: NDArray[np.float32], size: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """As ``best_positions``, whatever the grid of cells that a patch was cut on.

    A patch may begin in the middle of a cell of the slice, and its cells are then others: it is looked up by
    the cells that begin at its first pixel, and by those that begin half a cell further on, down and right.

    Args:
        greys: The patches ``[B, size, size]`` uint8.
        slices: In cells, ``[M, h, w]``.
        size: Side of the patches, in px.

    Returns:
        The correlations ``[B, M]``, and row and column of the first pixel of the patch there ``[B, M, 2]``.
    """
    cell = cell_px(size)
    side = size - size % cell - (cell if cell > 1 else 0)
    best: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    starts = sorted({0, cell // 2})
    for down, right, flip in product(starts, starts, (False, True)):
        patches = cells(greys[:, down : down + side, right : right + side], size)
        correlations, corners = best_positions(patches, slices, size, (flip,))
        # Of a mirrored patch, what lies right of the cells comes first in the slice.
        corners = corners - np.array([down, size - side - right if flip else right])
        if best is not None:
            better = correlations > best[0]
            correlations = np.where(better, correlations, best[0])
            corners = np.where(better[..., None], corners, best[1])
        best = correlations, corners
    assert best is not None
    return best


def _least_energy(side: int) -> float:
    return side * side * LEAST_LEVELS**2

"""Places in the lungs that look like a nodule and are none: what a classifier has to tell from nodules."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.window import WINDOW_HU

#: Scale of the filter: it answers most to bright discs of 2 sqrt(2) times as much, 7 mm.
_SIGMA_MM = 2.5


def window_around(row: float, column: float, size: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the window of ``size`` px around a place, moved so that it lies in the picture.

    Raises:
        ValueError: The picture is smaller than the window.
    """
    if size > min(shape):
        raise ValueError(f"a window of {size} px does not fit into a picture of {shape[0]} x {shape[1]}")
    top, left = (
        int(np.clip(np.floor(centre - size / 2 + 1), 0, side - size))
        for centre, side in zip((row, column), shape, strict=True)
    )
    return top, left


def most_like_a_nodule(
    hu: NDArray[np.int16], label: NDArray[np.uint8], spacing_mm: Sequence[float], size: int
) -> tuple[int, int] | None:
    """The pixel of the lungs that is most like the centre of a nodule, with none in the window around it.

    Most like is where the negative Laplacian of a Gaussian (2.5 mm) is largest, over the lungs alone: what is
    not lung is first given the median of the lungs, so that their walls do not shine in. Such places are
    vessels and their crossings, as the false candidates of LUNA16 mostly are.

    Args:
        hu: ``[H, W]``.
        label: Classes, ``[H, W]``.
        spacing_mm: Distance of pixel centres (row, column).
        size: Side of the window, in px.

    Returns:
        Row and column; None where every window in the lungs holds a piece of a nodule, or there is no lung.
    """
    lungs = (label == LEFT_LUNG) | (label == RIGHT_LUNG)
    allowed = lungs & ~_windows_with(label == NODULE, size)
    if not allowed.any():
        return None
    low, high = WINDOW_HU
    values = np.clip(hu.astype(np.float64), low, high)
    flat = np.where(lungs, values, np.median(values[lungs]))
    answer = -ndimage.gaussian_laplace(flat, [_SIGMA_MM / step for step in spacing_mm], mode="nearest")
    best = np.argmax(np.where(allowed, answer, -np.inf))
    row, column = np.unravel_index(best, label.shape)
    return int(row), int(column)


def _windows_with(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """For each pixel, whether the window around it, moved into the picture, holds a pixel of the mask."""
    height, width = mask.shape
    sums = np.pad(mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    tops = np.array([window_around(row, 0, size, mask.shape)[0] for row in range(height)])
    lefts = np.array([window_around(0, column, size, mask.shape)[1] for column in range(width)])
    ends, rights = tops + size, lefts + size
    inside = (
        sums[np.ix_(ends, rights)]
        - sums[np.ix_(tops, rights)]
        - sums[np.ix_(ends, lefts)]
        + sums[np.ix_(tops, lefts)]
    )
    return inside > 0

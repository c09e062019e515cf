"""Hard negatives for nodule classification: the places in the lungs that most resemble a nodule."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.window import WINDOW_HU

#: Scale of the filter: it responds most to bright discs of diameter 2 sqrt(2) sigma, 7 mm.
_SIGMA_MM = 2.5


def window_around(row: float, column: float, size: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the window of ``size`` px around a pixel, shifted to lie within the image.

    Raises:
        ValueError: The image is smaller than the window.
    """
    if size > min(shape):
        raise ValueError(f"a window of {size} px does not fit into an image of {shape[0]} x {shape[1]}")
    top, left = (
        int(np.clip(np.floor(centre - size / 2 + 1), 0, side - size))
        for centre, side in zip((row, column), shape, strict=True)
    )
    return top, left


def hardest_negative(
    hu: NDArray[np.int16], label: NDArray[np.uint8], spacing_mm: Sequence[float], size: int
) -> tuple[int, int] | None:
    """The lung pixel most like the centre of a nodule, among those whose window holds no nodule.

    Similarity is the negative Laplacian of a Gaussian (sigma 2.5 mm) over the lungs alone: other pixels are
    first set to the lungs' median, so that the chest wall does not respond. The maxima are vessels and their
    crossings, as most false candidates of LUNA16 are.

    Args:
        hu: Slice, shape [H, W], in HU.
        label: Classes, shape [H, W].
        spacing_mm: Pixel spacing (row, column).
        size: Side of the window, in px.

    Returns:
        Row and column; None if there is no lung, or if every window in the lungs overlaps a nodule.
    """
    lungs = (label == LEFT_LUNG) | (label == RIGHT_LUNG)
    allowed = lungs & ~_windows_with(label == NODULE, size)
    if not allowed.any():
        return None
    low, high = WINDOW_HU
    values = np.clip(hu.astype(np.float64), low, high)
    flat = np.where(lungs, values, np.median(values[lungs]))
    response = -ndimage.gaussian_laplace(flat, [_SIGMA_MM / step for step in spacing_mm], mode="nearest")
    best = np.argmax(np.where(allowed, response, -np.inf))
    row, column = np.unravel_index(best, label.shape)
    return int(row), int(column)


def _windows_with(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """For each pixel, whether the window around it, shifted into the image, overlaps the mask."""
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

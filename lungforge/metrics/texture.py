"""Texture of an image inside a region: local operators, frequency bands and the co-occurrence of grey levels.

Zwanenburg et al., "The Image Biomarker Standardization Initiative", 2020; Haralick et al., "Textural
Features for Image Classification", 1973. All arrays are two-dimensional; images are float32 in HU.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.window import WINDOW_HU

#: Width of a grey level for entropy and co-occurrence, in HU.
BIN_HU: Final = 25

#: Steps to the neighbours, row and column, whose grey levels are counted together; each in both directions.
_STEPS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))
#: Smoothing reaches so many standard deviations.
_REACH: Final = 3.0


def interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a region whose eight neighbours are in it, too."""
    inside: NDArray[np.bool_] = ndimage.binary_erosion(mask, np.ones((3, 3), dtype=bool))
    return inside


def laplacian(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the four neighbours minus four times the pixel, HU."""
    result: NDArray[np.float32] = ndimage.laplace(values)
    return result


def local_deviation(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Standard deviation of each pixel and its eight neighbours, HU."""
    # The variance does not change with the origin, and keeps its digits near zero.
    centred = values.astype(np.float64) - float(values.mean())
    mean = ndimage.uniform_filter(centred, 3)
    square = ndimage.uniform_filter(centred * centred, 3)
    return np.sqrt(np.maximum(square - mean * mean, 0.0))


def gradient(values: NDArray[np.float32], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Magnitude of the gradient by central differences, HU per mm."""
    along_rows, along_columns = np.gradient(values, *spacing_mm)
    return np.hypot(along_rows, along_columns)


def band_deviations(
    values: NDArray[np.float32],
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    sigmas_mm: Sequence[float],
) -> list[float]:
    """Standard deviation in a region of what each smoothing takes away from the one before, HU.

    The first band is the image minus its first smoothing. Only pixels of the region enter into the smoothing
    (normalised convolution: Knutsson and Westin, 1993), so that its surroundings have no influence.

    Args:
        values: ``[H, W]``.
        mask: The region, bool ``[H, W]``.
        spacing_mm: Of the pixels, [row, column].
        sigmas_mm: Standard deviations of the Gaussians, ascending.
    """
    weights = mask.astype(np.float32)
    # Near zero, for the digits of float32.
    centred = np.where(mask, values - values[mask].mean(), np.float32(0))
    before = centred
    deviations = []
    for sigma in sigmas_mm:
        pixels = [sigma / spacing for spacing in spacing_mm]
        total = ndimage.gaussian_filter(centred, pixels, mode="constant", truncate=_REACH)
        weight = ndimage.gaussian_filter(weights, pixels, mode="constant", truncate=_REACH)
        smooth = np.divide(total, weight, out=np.zeros_like(total), where=mask)
        deviations.append(float((before - smooth)[mask].std(dtype=np.float64)))
        before = smooth
    return deviations


def grey_levels(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The grey level of each HU value: bins of 25 HU from the lower edge of the window."""
    return ((values - WINDOW_HU[0]) // BIN_HU).astype(np.int64)


def entropy(levels: NDArray[np.int64]) -> float:
    """Shannon entropy of grey levels ``[N]``, in bits."""
    shares = np.bincount(levels) / len(levels)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def co_occurrence(levels: NDArray[np.int64], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation and homogeneity of the grey levels of neighbours in a region.

    Of the symmetrical co-occurrence matrix of all four directions at a distance of one pixel: the correlation
    (1 for a constant region), and the inverse difference moment ``mean(1 / (1 + (i - j)^2))``.
    """
    height, width = mask.shape
    ones, others = [], []
    for down, right in _STEPS:
        here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        there = np.s_[down:, max(0, right) : width - max(0, -right)]
        both = mask[here] & mask[there]
        ones.append(levels[here][both])
        others.append(levels[there][both])
    one, other = np.concatenate(ones).astype(np.float64), np.concatenate(others).astype(np.float64)
    # Counted in both directions, both sides have the same mean and variance.
    middle = (one.mean() + other.mean()) / 2
    one -= middle
    other -= middle
    variance = ((one * one).mean() + (other * other).mean()) / 2
    correlation = float((one * other).mean() / variance) if variance > 0 else 1.0
    return correlation, float((1.0 / (1.0 + (one - other) ** 2)).mean())

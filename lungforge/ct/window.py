"""The HU window: conversion of Hounsfield units to model input and grey values, and back."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lungforge.errors import ContentError

WINDOW_HU: Final = (-1000, 400)
"""Lower and upper bound of the window, in HU; values outside are clipped."""

LUNG_WINDOW_HU: Final = (-1350, 150)
SOFT_TISSUE_WINDOW_HU: Final = (-160, 240)
"""The windows that radiologists read a chest in: level -600, width 1500, and level 40, width 400."""

HU_PER_UNIT: Final = (WINDOW_HU[1] - WINDOW_HU[0]) / 2
"""Hounsfield units that a difference of 1 is worth in [-1, 1]."""

AIR_HU: Final = -1000
"""Hounsfield units of air; the padding beyond the edge of a scan."""


def hu_to_unit(hu: ArrayLike) -> NDArray[np.float32]:
    """Map Hounsfield units linearly from the window to [-1, 1], clipped.

    Args:
        hu: Any shape, in HU.

    Returns:
        The same shape.
    """
    low, high = WINDOW_HU
    clipped = np.clip(np.asarray(hu, np.float32), low, high)
    return (clipped - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)


def unit_to_hu(unit: ArrayLike) -> NDArray[np.int16]:
    """Map [-1, 1] linearly to the window, clipped and rounded to whole Hounsfield units.

    The inverse of :func:`hu_to_unit` for every whole Hounsfield unit within the window.

    Args:
        unit: Any shape.

    Returns:
        The same shape, in HU.

    Raises:
        ContentError: A value is not finite: as int16 it would be 0 HU, which is water.
    """
    low, high = WINDOW_HU
    values = np.asarray(unit, np.float64)
    if not np.isfinite(values).all():
        raise ContentError("an image holds values that are not finite (NaN or infinite)")
    clipped = np.clip(values, -1, 1)
    return np.rint((clipped + 1) * ((high - low) / 2) + low).astype(np.int16)


def hu_to_uint8(hu: ArrayLike, window_hu: tuple[int, int] = WINDOW_HU) -> NDArray[np.uint8]:
    """Map Hounsfield units linearly from a window to grey values 0-255, clipped and rounded.

    Args:
        hu: Any shape, in HU.
        window_hu: Lowest and highest Hounsfield unit: black and white.

    Returns:
        The same shape.
    """
    low, high = window_hu
    clipped = np.clip(np.asarray(hu, np.float32), low, high)
    return np.rint((clipped - low) * np.float32(255 / (high - low))).astype(np.uint8)

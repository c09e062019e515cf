"""Surfaces as formulas: negative inside and, near to the surface, about the distance in mm."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]


def superellipse(u: ArrayLike, v: ArrayLike, across: float, along: float, power: float) -> Array:
    """Distance to a superellipse around (0, 0), to first order: saves the root at every pixel."""
    sum_of_powers = (np.abs(u) / across) ** power + (np.abs(v) / along) ** power
    return ((sum_of_powers - 1) * (min(across, along) / power)).astype(np.float32)


def ellipse(u: Array, v: Array, across: float, along: float, third: float) -> Array:
    """Distance to an ellipsoid around (0, 0, 0); ``third`` is the third coordinate over its half-axis."""
    radius = np.sqrt((u / across) ** 2 + (v / along) ** 2 + third**2)
    return ((radius - 1) * min(across, along)).astype(np.float32)


def rounded(first: ArrayLike, second: ArrayLike, radius: float) -> Array:
    """The larger of two distances, the edge between the two surfaces rounded."""
    overlap = np.maximum(radius - np.abs(np.subtract(first, second)), 0)
    return (np.maximum(first, second) + overlap**2 / (4 * radius)).astype(np.float32)

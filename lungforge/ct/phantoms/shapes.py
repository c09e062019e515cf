"""Signed functions of surfaces: negative inside, and near the surface about the distance in mm."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def superellipse(
    u: ArrayLike, v: ArrayLike, across: float, along: float, power: float
) -> NDArray[np.float32]:
    """Distance to a superellipse around (0, 0), to first order, which saves a root per pixel."""
    sum_of_powers = (np.abs(u) / across) ** power + (np.abs(v) / along) ** power
    return ((sum_of_powers - 1) * (min(across, along) / power)).astype(np.float32)


def ellipse(
    u: NDArray[np.float32], v: NDArray[np.float32], across: float, along: float, third: float
) -> NDArray[np.float32]:
    """Distance to an ellipsoid around (0, 0, 0); ``third`` is the third coordinate over its semi-axis."""
    radius = np.sqrt((u / across) ** 2 + (v / along) ** 2 + third**2)
    return ((radius - 1) * min(across, along)).astype(np.float32)


def rounded(first: ArrayLike, second: ArrayLike, radius: float) -> NDArray[np.float32]:
    """Maximum of two distances, with the edge between the surfaces rounded."""
    overlap = np.maximum(radius - np.abs(np.subtract(first, second)), 0)
    return (np.maximum(first, second) + overlap**2 / (4 * radius)).astype(np.float32)

"""The correlation of two textures, and what of it is left beyond textures that explain them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.textures import LEAST_LEVELS

#: Of what explains a texture, sums that are smaller by this factor than the largest explain nothing.
_SMALLEST_SHARE: Final = 1e-6


def correlation_beyond(
    some: NDArray[np.floating], others: NDArray[np.floating], explained: NDArray[np.floating]
) -> float:
    """The partial correlation of two textures ``[P]``: of what sums of ``explained [K, P]`` leave of each.

    By the products of all with all: a few numbers, which least squares over the pixels would come to, too.
    """
    every = np.concatenate([np.ones((1, len(some))), explained, some[None], others[None]])
    every = every.astype(np.float64, copy=False)
    products = every @ every.T
    values, vectors = np.linalg.eigh(products[:-2, :-2])
    kept = values > values[-1] * _SMALLEST_SHARE**2
    along = (vectors[:, kept].T @ products[:-2, -2:]) / np.sqrt(values[kept])[:, None]
    rest = products[-2:, -2:] - along.T @ along
    return _correlation(rest[0, 0], rest[1, 1], rest[0, 1], len(some))


def pearson(some: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """Correlation of two textures ``[P]``; 0 where one of them has next to no texture."""
    one, other = some - some.mean(), others - others.mean()
    return _correlation(one @ one, other @ other, one @ other, len(one))


def _correlation(one: float, other: float, between: float, pixels: int) -> float:
    """Of two textures, by their sums of squares and of products; 0 where one has next to no texture."""
    if min(one, other) < pixels * LEAST_LEVELS**2:
        return 0.0
    return float(between / np.sqrt(one * other))

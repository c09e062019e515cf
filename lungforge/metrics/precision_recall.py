"""Improved precision and recall of generated images: how many are realistic, and how much they cover.

Kynkäänniemi, Karras, Laine, Lehtinen and Aila, "Improved Precision and Recall Metric for Assessing
Generative Models", 2019 (arXiv 1904.06991).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.neighbours import rounding_of_squares, squared_distances

#: The neighbour whose distance is the radius around a feature vector; the paper's choice.
NEIGHBOUR: Final = 3
#: A set needs so many vectors for each of them to have that neighbour.
FEWEST: Final = NEIGHBOUR + 1


def precision(real: NDArray[np.floating], synthetic: NDArray[np.floating]) -> float:
    """The share of synthetic vectors that lie on the manifold of the real ones.

    That manifold is the union of balls around each real vector that reach to its third nearest among the
    other real ones, surface included. What lies outside by rounding alone counts as on the surface.

    Args:
        real: ``[N, D]``, N at least ``FEWEST``.
        synthetic: ``[M, D]``.

    Returns:
        The share, 0 to 1.
    """
    reach = _squared_radii(real) + rounding_of_squares(synthetic, real)
    inside = np.empty(len(synthetic), dtype=bool)
    for block, squares in squared_distances(synthetic, real):
        inside[block] = (squares <= reach).any(axis=1)
    return float(inside.mean())


def recall(real: NDArray[np.floating], synthetic: NDArray[np.floating]) -> float:
    """The share of real vectors that lie on the manifold of the synthetic ones; see ``precision``."""
    return precision(synthetic, real)


def _squared_radii(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Squared distance ``[N]`` of each vector to its third nearest among the others."""
    assert len(features) >= FEWEST, "the third nearest of the others needs four vectors or more"
    radii = np.empty(len(features))
    for block, squares in squared_distances(features, features):
        # A vector is no neighbour of itself; its equals are.
        itself = np.arange(len(features))[block]
        squares[np.arange(len(itself)), itself] = np.inf
        radii[block] = np.partition(squares, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1]
    return radii

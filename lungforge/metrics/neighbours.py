"""Distances between many feature vectors, a block of rows at a time, so that memory stays bounded."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Distances that are held at a time: 128 MiB.
BLOCK_ENTRIES = 2**24


def squared_distances(
    points: NDArray[np.floating], others: NDArray[np.floating]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Squared Euclidean distances, block by block.

    Args:
        points: ``[N, D]``.
        others: ``[M, D]``.

    Yields:
        Rows of ``points``, and their squared distances ``[rows, M]`` to all of ``others``, float64, at
        least 0.
    """
    # A distance does not change with the origin; near the vectors' own middle the squares are smallest, and
    # with them what rounding takes from their difference.
    origin = np.asarray(others, dtype=np.float64).mean(axis=0)
    y = others - origin
    lengths = np.einsum("md,md->m", y, y)
    rows = max(1, BLOCK_ENTRIES // len(others))
    for start in range(0, len(points), rows):
        block = slice(start, start + rows)
        x = points[block] - origin
        squares = x @ y.T
        squares *= -2.0
        squares += np.einsum("nd,nd->n", x, x)[:, None]
        squares += lengths
        yield block, np.maximum(squares, 0.0, out=squares)


def rounding_of_squares(points: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """What rounding can make of the largest of these squared distances."""
    origin = np.asarray(others, dtype=np.float64).mean(axis=0)
    largest = sum(float(((vectors - origin) ** 2).sum(axis=1).max()) for vectors in (points, others))
    return 4.0 * points.shape[1] * float(np.finfo(np.float64).eps) * largest


def nearest_neighbours(
    points: NDArray[np.floating], others: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of ``others [M, D]`` to each of ``points [N, D]``.

    Returns:
        Their indices, int64 ``[N]``, the first of equals, and the Euclidean distances, float64 ``[N]``.
    """
    indices = np.empty(len(points), dtype=np.int64)
    for block, squares in squared_distances(points, others):
        indices[block] = squares.argmin(axis=1)
    # Once more from the difference itself: of a copy the distance is then 0, not a rest of rounding.
    differences = np.asarray(points, dtype=np.float64) - others[indices]
    return indices, np.linalg.norm(differences, axis=1)

"""The kernel inception distance (KID) between two sets of feature vectors.

Bińkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs", 2018: the unbiased estimate of the
squared maximum mean discrepancy under the kernel ``(x . y / D + 1)^3``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.permutation import ScanPermutations, p_value

#: Rows of the kernel matrix that are held at a time.
BLOCK_ROWS = 1024

_Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class KidEstimate:
    """The KID over random subsets.

    Attributes:
        mean: Mean over the subsets; unbiased, so it may fall below 0 for equal distributions.
        spread: Standard deviation over the subsets.
        subsets: How many subsets.
        subset_size: Vectors from each side in a subset.
    """

    mean: float
    spread: float
    subsets: int
    subset_size: int


def kid(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Unbiased squared discrepancy of ``[N, D]`` and ``[M, D]``, N and M at least 2; float64."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert min(len(x), len(y)) > 1, "the KID needs two vectors or more on each side"
    within_x = _kernel_sum(x, x) - _kernel_diagonal_sum(x)
    within_y = _kernel_sum(y, y) - _kernel_diagonal_sum(y)
    between = _kernel_sum(x, y) / (len(x) * len(y))
    return within_x / (len(x) * (len(x) - 1)) + within_y / (len(y) * (len(y) - 1)) - 2.0 * between


def kid_over_subsets(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    generator: np.random.Generator,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
) -> KidEstimate:
    """Mean and spread of the KID over random subsets, drawn without replacement.

    Args:
        first: ``[N, D]``.
        second: ``[M, D]``.
        generator: Draws the subsets.
        subsets: How many.
        subset_size: Vectors from each side; fewer where a set has fewer than twice as many, so that the
            subsets differ and the spread means something.
    """
    size = max(2, min(subset_size, len(first) // 2, len(second) // 2))
    # As when they are drawn in turn: one of each side, subset after subset.
    chosen = [
        [np.sort(generator.choice(len(side), size, replace=False)) for side in (first, second)]
        for _ in range(subsets)
    ]
    if max(len(first), len(second)) ** 2 <= subsets * size**2:
        values = _kid_of_each(first, second, chosen)
    else:
        values = np.array([kid(first[one], second[other]) for one, other in chosen])
    return KidEstimate(float(np.mean(values)), float(np.std(values, ddof=1)), subsets, size)


def _kid_of_each(
    first: NDArray[np.floating], second: NDArray[np.floating], chosen: Sequence[Sequence[NDArray[np.int64]]]
) -> _Array:
    """The KID of many subsets of the same sets, from a kernel that is computed once for all.

    A sum over a subset is a product with a vector of ones and zeros.
    """
    x, y = (np.asarray(side, dtype=np.float64) for side in (first, second))
    in_x, in_y = (np.zeros((len(side), len(chosen))) for side in (x, y))
    for subset, (one, other) in enumerate(chosen):
        in_x[one, subset] = in_y[other, subset] = 1.0
    size = len(chosen[0][0])

    def sums(left: _Array, right: _Array, some: _Array, others: _Array) -> _Array:
        total = np.zeros(len(chosen))
        for start in range(0, len(left), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            kernel = _kernel(left[block] @ right.T, left.shape[1])
            total += (some[block] * (kernel @ others)).sum(axis=0)
        return total

    def within(side: _Array, members: _Array) -> _Array:
        diagonal = _kernel(np.einsum("nd,nd->n", side, side), side.shape[1])
        return (sums(side, side, members, members) - diagonal @ members) / (size * (size - 1))

    return within(x, in_x) + within(y, in_y) - 2.0 * sums(x, y, in_x, in_y) / size**2


def kid_p_value(
    first: NDArray[np.floating], second: NDArray[np.floating], permutations: ScanPermutations
) -> float:
    """Whether the KID is larger than between two sets that the same scans are divided into at random.

    Gretton et al., "A Kernel Two-Sample Test", 2012, with scans as what is permuted. The kernel is summed
    once over each pair of scans; a permutation then adds up such sums.

    Args:
        first: ``[N, D]``, N at least 2.
        second: ``[M, D]``, M at least 2.
        permutations: Of the images' scans.
    """
    tested = np.flatnonzero(permutations.taking_part)
    pooled = np.concatenate([first, second])[tested].astype(np.float64)
    permutations = permutations.keep(tested)
    scans = permutations.membership
    sums = np.zeros((scans.shape[1], scans.shape[1]))
    for start in range(0, len(pooled), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        sums += scans[block].T @ (_kernel(pooled[block] @ pooled.T, pooled.shape[1]) @ scans)
    diagonal = scans.T @ _kernel(np.einsum("nd,nd->n", pooled, pooled), pooled.shape[1])
    sizes = scans.sum(axis=0)

    def within(side: NDArray[np.float64]) -> NDArray[np.float64]:
        images = side @ sizes
        return (((side @ sums) * side).sum(axis=1) - side @ diagonal) / (images * (images - 1))

    one = permutations.first.astype(np.float64)
    other = 1.0 - one
    between = ((one @ sums) * other).sum(axis=1) / ((one @ sizes) * (other @ sizes))
    return p_value(within(one) + within(other) - 2.0 * between)


def _kernel(products: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    values = products / dimensions
    values += 1.0
    # Products of three: ``** 3`` goes by logarithms.
    cubes: NDArray[np.float64] = values * values * values
    return cubes


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    blocks = (x[start : start + BLOCK_ROWS] for start in range(0, len(x), BLOCK_ROWS))
    return float(sum(_kernel(block @ y.T, x.shape[1]).sum() for block in blocks))


def _kernel_diagonal_sum(x: NDArray[np.float64]) -> float:
    return float(_kernel(np.einsum("nd,nd->n", x, x), x.shape[1]).sum())

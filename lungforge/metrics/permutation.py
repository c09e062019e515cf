"""Permutation tests between two sets of images in which whole scans change sides.

Slices of one scan are alike, so they are no independent draws: a test that permutes slices takes nearly every
difference for a real one. Under the hypothesis that both sets are of one distribution, whole scans can
change sides. Only scans of about as many slices can: where one set has many of each scan and the other few,
chance differences shrink when they are mixed. So of each scan at most as many slices take part as a scan of
the sparser set has on average.

The p-value is ``(b + 1) / (B + 1)``, b the permutations out of B whose statistic is at least the observed
one: Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010. Several features at once share the
largest statistic of each permutation: Westfall and Young, "Resampling-Based Multiple Testing", 1993.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Chance explains what has a p-value from this on.
SIGNIFICANCE: Final = 0.05
#: Random permutations of a test.
PERMUTATIONS: Final = 999
#: With fewer ways to divide the scans no p-value can fall below 0.05.
_FEWEST_DIVISIONS: Final = 20
#: Statistics that differ by less, relative to the observed one, count as equal.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class ScanPermutations:
    """Ways to divide the scans of two sets.

    Attributes:
        units: The scan of each image, those of the first set before those of the second, int64 ``[N + M]``. A
            scan that is in both sets is two.
        taking_part: Which images are tested, bool ``[N + M]``.
        first: Which scans are on the first side, bool ``[B + 1, S]``; row 0 as they are, the others random.
    """

    units: NDArray[np.int64]
    taking_part: NDArray[np.bool_]
    first: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """How many of the divisions are random."""
        return len(self.first) - 1

    @property
    def membership(self) -> NDArray[np.float64]:
        """1 where an image that takes part is of a scan, ``[N + M, S]``."""
        return np.eye(self.first.shape[1])[self.units] * self.taking_part[:, None]

    def keep(self, images: NDArray[np.int64]) -> "ScanPermutations":
        """The same for some of the images, by their indices in both sets together."""
        return ScanPermutations(self.units[images], self.taking_part[images], self.first)


def permute_scans(
    first: Sequence[str],
    second: Sequence[str],
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> ScanPermutations | None:
    """Random ways to divide the scans, as many on each side as there are.

    Args:
        first: The scan of each image of the first set.
        second: The scan of each image of the second set.
        generator: Draws the slices that take part, and the permutations.
        permutations: How many.

    Returns:
        The permutations, or None where there are too few scans for any p-value below 0.05.
    """
    names_first, units_first = np.unique(np.asarray(first), return_inverse=True)
    names_second, units_second = np.unique(np.asarray(second), return_inverse=True)
    sides = len(names_first), len(names_second)
    if min(sides) < 2 or math.comb(sum(sides), sides[0]) < _FEWEST_DIVISIONS:
        return None
    units = np.concatenate([units_first, units_second + sides[0]])
    most = math.ceil(min(len(first) / sides[0], len(second) / sides[1]))
    taking_part = np.full(len(units), False)
    for unit in range(sum(sides)):
        images = np.flatnonzero(units == unit)
        taking_part[generator.permutation(images)[:most]] = True
    observed = np.arange(sum(sides)) < sides[0]
    drawn = generator.permuted(np.tile(observed, (permutations, 1)), axis=1)
    return ScanPermutations(units, taking_part, np.concatenate([observed[None], drawn]))


def p_value(statistics: NDArray[np.float64]) -> float:
    """The p-value of ``statistics [B + 1]``; the first is the observed one, and large ones are extreme."""
    observed, drawn = statistics[0], statistics[1:]
    extreme = drawn >= observed - _ROUNDING * abs(observed)
    return float((extreme.sum() + 1) / (len(drawn) + 1))


def mean_shift_p_values(
    first: NDArray[np.floating], second: NDArray[np.floating], permutations: ScanPermutations
) -> NDArray[np.float64]:
    """For each feature, whether its means differ by more than the scans explain.

    The statistic is the difference of the means in standard errors, ``|a - b| / sqrt(s^2 (1/n + 1/m))`` with
    the variance ``s^2`` of both sets together. It is compared with the largest over all features in each
    permutation, so that one p-value below 0.05 among any number of features that do not differ has a
    probability of 0.05.

    Args:
        first: ``[N, F]``; NaN where an image lacks a feature.
        second: ``[M, F]``.
        permutations: Of the images' scans.

    Returns:
        The p-values, float64 ``[F]``; NaN for a feature without two values on each side.
    """
    values = np.concatenate([first, second]).astype(np.float64)
    there = np.isfinite(values)
    there &= permutations.taking_part[:, None]
    tested = (there[: len(first)].sum(axis=0) > 1) & (there[len(first) :].sum(axis=0) > 1)
    p_values = np.full(values.shape[1], np.nan)
    if not tested.any():
        return p_values
    values, there = values[:, tested], there[:, tested]
    values[~there] = 0.0
    deviations = np.where(there, values - values.sum(axis=0) / there.sum(axis=0), 0.0)
    variance = (deviations**2).sum(axis=0) / (there.sum(axis=0) - 1)
    scans = permutations.membership
    sums, counts = scans.T @ deviations, scans.T @ there.astype(np.float64)
    side = permutations.first.astype(np.float64)
    n, m = side @ counts, (1.0 - side) @ counts
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.abs(side @ sums / n - (1.0 - side) @ sums / m)
        statistics = difference / np.sqrt(variance * (1.0 / n + 1.0 / m))
    # A feature without variance does not differ; a permutation may leave a side without any value.
    statistics = np.nan_to_num(statistics, nan=0.0, posinf=0.0)
    largest = statistics[1:].max(axis=1)
    p_values[tested] = [p_value(np.append(observed, largest)) for observed in statistics[0]]
    return p_values

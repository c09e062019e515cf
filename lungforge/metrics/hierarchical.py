"""Intervals of differences between ways to train, over trained networks and test scans at once.

A study has two random factors: which networks came out of training (their seeds), and which scans they are
tested on. Every network is tested on every scan, as every reader reads every case in studies of readers, so
the variance components are theirs: Obuchowski and Rockette, "Hypothesis testing of diagnostic accuracy for
multiple readers and multiple tests", Communications in Statistics 24, 1995. For the paired differences d of
C networks, the variance of their mean is

    N + S,  N = var(d over networks) / C,  S = cov(d of one network, d of another, over test scans),

the covariance by a bootstrap over scans. (A bootstrap of networks and scans together counts their
interaction twice, and one of a few networks is too narrow: Owen, "The pigeonhole bootstrap", 2007.) N of a
few networks is uncertain, S less so. The interval reaches to either side by the root of
t(C - 1)^2 N + t(scans - 1)^2 S, t the quantiles of Student's distribution: limits for each part, put together
as Zou and Donner do, "Construction of confidence limits about effect measures: a general approach",
Statistics in Medicine 27, 2008.

Several differences get simultaneous intervals: all of them cover with 95 %. So the tail of each is that at
which the largest of their correlated errors leaves its interval in 5 % of random repeats (single-step
maximum: Hothorn, Bretz and Westfall, "Simultaneous inference in general parametric models", Biometrical
Journal 50, 2008). A handful of networks says too little about correlations: what networks contribute is taken
from which arms two differences share, as in Tukey's and Dunnett's methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

#: How often all intervals of a family cover what they are for.
CONFIDENCE: Final = 0.95
#: Random repeats behind the tail of simultaneous intervals; their coverage is exact to half a percent.
_REPEATS: Final = 10_000
#: A variance that is no more than errors of rounding.
_NO_VARIANCE: Final = 1e-20
#: Halvings in the search for that tail.
_HALVINGS: Final = 12


@dataclass(frozen=True)
class Interval:
    """A difference and where it lies.

    Attributes:
        estimate: Mean over the networks, over all scans; NaN where the measure is undefined.
        low: Lower end of the interval; NaN where there is none.
        high: Upper end.
        draws: Draws of the bootstrap that count; those that leave a measure undefined do not.
    """

    estimate: float
    low: float
    high: float
    draws: int

    @property
    def has_no_width(self) -> bool:
        """Whether nothing varies over networks and scans: the networks do the same, which is no certainty."""
        return self.high - self.low < 1e-9


def simultaneous_intervals(
    values: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    scans: int,
    generator: np.random.Generator,
) -> tuple[Interval, ...]:
    """The intervals of a family of differences, which together cover with :data:`CONFIDENCE`.

    Args:
        values: ``[A, C, B + 1]``: what each network of each arm reaches over all scans, and over the draws of
            :func:`lungforge.metrics.bootstrap.scan_weights`. Networks of one index belong together: they are
            of the same fold and seed, and each draw is the same for all.
        pairs: The differences wanted: which arm, less which.
        scans: How many test scans the measure is of.
        generator: Draws the random repeats; unused for a single difference.

    Returns:
        An interval for each pair; without ends where there is one network, one scan, or no draw that counts.
    """
    first, second = np.asarray(pairs, dtype=np.int64).T
    differences = values[first] - values[second]
    _, networks, _ = differences.shape
    estimates = differences[:, :, 0].mean(axis=1)
    counting = np.isfinite(differences[:, :, 1:]).all(axis=(0, 1))
    draws = int(counting.sum())
    if networks < 2 or scans < 2 or draws < 2 or not np.isfinite(estimates).all():
        return tuple(Interval(float(estimate), np.nan, np.nan, draws) for estimate in estimates)
    over_networks = differences[:, :, 0].var(axis=1, ddof=1) / networks
    resampled = differences[:, :, 1:][:, :, counting]
    # A bootstrap of n gives n - 1 nths of the variance.
    correction = scans / (scans - 1)
    of_mean = correction * _covariance(resampled.mean(axis=1).T)
    of_one = correction * resampled.var(axis=2, ddof=1).mean(axis=1)
    between = np.clip((networks * np.diag(of_mean) - of_one) / (networks - 1), 0.0, None)
    freedom = (networks - 1, scans - 1)
    tail = 1.0 - CONFIDENCE
    varying = over_networks + between > _NO_VARIANCE
    if varying.sum() > 1:
        contrasts = np.zeros((len(pairs), len(values)))
        contrasts[np.arange(len(pairs)), first] += 1.0
        contrasts[np.arange(len(pairs)), second] -= 1.0
        contrasts, shared = contrasts[varying], of_mean[np.ix_(varying, varying)]
        scale = np.sqrt(np.maximum(np.diag(shared), np.finfo(np.float64).tiny))
        tail = _tail_of_each(
            (over_networks[varying], between[varying]),
            # Of arms whose networks vary alike, and independently of those of other arms.
            (contrasts @ contrasts.T / 2.0, shared / scale[:, None] / scale),
            freedom,
            generator,
        )
    of_networks, of_scans = _quantiles(tail, freedom) ** 2
    # Never less than what the scans alone make of these very networks.
    reach = np.sqrt(np.maximum(of_networks * over_networks + of_scans * between, of_scans * np.diag(of_mean)))
    return tuple(
        Interval(estimate, estimate - half, estimate + half, draws)
        for estimate, half in zip(estimates.tolist(), reach.tolist(), strict=True)
    )


def _covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of ``values [N, J]``, ``[J, J]``."""
    centred = values - values.mean(axis=0)
    return centred.T @ centred / (len(values) - 1)


def _tail_of_each(
    variances: tuple[NDArray[np.float64], NDArray[np.float64]],
    correlations: tuple[NDArray[np.float64], NDArray[np.float64]],
    freedom: tuple[int, int],
    generator: np.random.Generator,
) -> float:
    """The tail of single intervals with which all of them cover with :data:`CONFIDENCE`.

    Args:
        variances: What networks and scans contribute to the variance of each estimate, ``[J]`` each.
        correlations: Of the estimates, by networks and by scans, ``[J, J]`` each.
        freedom: Degrees of freedom of the variances.
        generator: Draws the repeats.
    """
    networks, scans = variances
    of_networks = _normal(correlations[0], (_REPEATS, freedom[0] + 1), generator)
    of_scans = np.sqrt(scans) * _normal(correlations[1], (_REPEATS,), generator)
    # The variances as such a repeat would estimate them.
    estimated = (of_networks[:, 1:] ** 2).mean(axis=1)
    scans = scans * (generator.chisquare(freedom[1], (_REPEATS, 1)) / freedom[1])
    # A handful of networks may make one of several equal variances look the largest by far, and the family
    # smaller than it is: the tail holds for their mean as well.
    return min(
        _tail(np.sqrt(each) * of_networks[:, 0] + of_scans, each * estimated, scans, freedom)
        for each in (networks, np.full_like(networks, networks.mean()))
    )


def _tail(
    error: NDArray[np.float64],
    networks: NDArray[np.float64],
    scans: NDArray[np.float64],
    freedom: tuple[int, int],
) -> float:
    """The tail with which the intervals of :data:`CONFIDENCE` of the repeats cover all of their errors.

    Args:
        error: Of the estimates of each repeat, ``[R, J]``.
        networks: What networks contribute to the variance that a repeat estimates, ``[R, J]``.
        scans: What scans contribute, likewise.
        freedom: Degrees of freedom of both.
    """
    low, high = 0.0, 1.0 - CONFIDENCE
    squares = error**2
    for _ in range(_HALVINGS):
        tail = (low + high) / 2
        first, second = _quantiles(tail, freedom) ** 2
        covered = (squares <= first * networks + second * scans).all(axis=1).mean()
        low, high = (tail, high) if covered >= CONFIDENCE else (low, tail)
    return low


def _quantiles(tail: float, freedom: tuple[int, int]) -> NDArray[np.float64]:
    """Of Student's distributions, what is exceeded to either side with ``tail``: stats.t.ppf, but sooner."""
    quantiles: NDArray[np.float64] = special.stdtrit(freedom, 1.0 - tail / 2.0)
    return quantiles


def _normal(
    correlation: NDArray[np.float64], shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Standard normal variables with these correlations ``[J, J]``, ``[*shape, J]``."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return generator.standard_normal((*shape, len(values))) @ root.T

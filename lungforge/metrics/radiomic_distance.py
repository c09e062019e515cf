"""The radiomic Fréchet distance between two sets of slices, and the features that moved.

As FRD (Konz et al., "Fréchet Radiomic Distance", 2024, arXiv 2412.01496): radiomic features, standardised on
the real slices, and the Fréchet distance of their Gaussian fits. Here every region of the map has a distance
of its own, over the slices that show it, and the radiomic distance is their sum: a slice without a nodule
has no features of nodules.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.frechet import GaussianSums, frechet_distance
from lungforge.metrics.permutation import ScanPermutations, mean_shift_p_values, p_value
from lungforge.metrics.radiomics import FEATURES, REGIONS, Region, Unit, columns_of

#: A region is compared where so many slices of each set show it, at least.
FEWEST_SLICES: Final = 4
#: The smallest standard deviation that features are divided by: what they vary less by means nothing.
_SMALLEST_DEVIATION: Final[dict[Unit, float]] = {"HU": 1.0, "times": 0.02, "share": 0.002, "plain": 0.02}
#: Standard deviations beyond which a feature counts as so far: the one scan with emphysema in a set would
#: else outweigh everything, and two halves of real slices be hundreds of times as far apart as others.
FARTHEST: Final = 5.0
#: Logarithms are taken of this value at least.
_SMALLEST_VALUE: Final = 1e-3
#: Permutations whose covariances are held at a time.
_BLOCK: Final = 100

_LOGARITHMIC: Final = np.array([feature.unit == "times" for feature in FEATURES])
_DEVIATIONS: Final = np.array([_SMALLEST_DEVIATION[feature.unit] for feature in FEATURES])


@dataclass(frozen=True)
class FeatureShift:
    """How a feature of synthetic slices differs from that of real ones.

    Attributes:
        name: What is measured.
        region: Where: lungs, body or nodules.
        unit: How the difference is stated: HU, times, share or plain.
        real_median: Over the real slices that show the region.
        synthetic_median: Over the synthetic ones.
        shift: Difference of the means, in standard deviations of the real slices; features of unit "times" by
            their logarithms.
        p_value: That chance makes any feature differ so much (permuted by scan); None with too few scans.
    """

    name: str
    region: Region
    unit: Unit
    real_median: float
    synthetic_median: float
    shift: float
    p_value: float | None


def comparable(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Features ``[N, F]`` as they are compared, float64: logarithms of those that differ by a factor."""
    values = features.astype(np.float64)
    logarithms = np.log(np.maximum(values[:, _LOGARITHMIC], _SMALLEST_VALUE))
    values[:, _LOGARITHMIC] = logarithms
    return values


def regions_in_both(first: NDArray[np.floating], second: NDArray[np.floating]) -> tuple[Region, ...]:
    """The regions that enough slices of both sets show."""
    return tuple(
        region
        for region in REGIONS
        if min(len(_showing(features, region)) for features in (first, second)) >= FEWEST_SLICES
    )


def radiomic_distances(
    real: NDArray[np.floating],
    synthetic: NDArray[np.floating],
    regions: tuple[Region, ...],
    *,
    standard: NDArray[np.floating] | None = None,
) -> dict[Region, float]:
    """The Fréchet distance of each region's features.

    They are standardised on real slices, and what is more than ``FARTHEST`` standard deviations from their
    mean counts as so far.

    Args:
        real: Features ``[N, F]`` of real slices, as ``radiomic_features`` gives them.
        synthetic: Features ``[M, F]``.
        regions: Those to compare. One that fewer than two slices of a set show has a distance of 0.
        standard: Features of the real slices that decide mean and standard deviation; ``real`` when not
            given. Halves of real slices are standardised on all of them, so that one scale holds for all.
    """
    one, other = comparable(real), comparable(synthetic)
    scale = one if standard is None else comparable(standard)
    distances = {}
    for region in regions:
        first, second = _showing(one, region), _showing(other, region)
        if min(len(first), len(second)) < 2:
            distances[region] = 0.0
            continue
        usual = _showing(scale, region)
        middle = usual.mean(axis=0)
        deviation = np.maximum(usual.std(axis=0, ddof=1), _DEVIATIONS[columns_of(region)])
        sums = (
            GaussianSums.of(np.clip((side - middle) / deviation, -FARTHEST, FARTHEST))
            for side in (first, second)
        )
        distances[region] = frechet_distance(*sums)
    return distances


def radiomic_p_value(
    real: NDArray[np.floating],
    synthetic: NDArray[np.floating],
    regions: tuple[Region, ...],
    permutations: ScanPermutations,
) -> float:
    """Whether the distance is larger than between two sets that the same scans are divided into at random.

    For the test the features are standardised on both sets together: so the scale is that of all divisions,
    and a mixture of good and broken slices does not make it wider in some of them than in others.

    Args:
        real: Features ``[N, F]``.
        synthetic: Features ``[M, F]``.
        regions: Those whose distances are added up.
        permutations: Of the slices' scans.
    """
    values = np.concatenate([comparable(real), comparable(synthetic)])
    total = np.zeros(len(permutations.first))
    for region in regions:
        columns = columns_of(region)
        there = np.flatnonzero(np.isfinite(values[:, columns]).all(axis=1) & permutations.taking_part)
        features = values[np.ix_(there, columns)]
        features -= features.mean(axis=0)
        features /= np.maximum(features.std(axis=0, ddof=1), _DEVIATIONS[columns])
        total += _permuted_distances(features, permutations.keep(there))
    return p_value(total)


def feature_shifts(
    real: NDArray[np.floating],
    synthetic: NDArray[np.floating],
    regions: tuple[Region, ...],
    permutations: ScanPermutations | None,
) -> tuple[FeatureShift, ...]:
    """How each feature of some regions differs, the largest shift first.

    Args:
        real: Features ``[N, F]``.
        synthetic: Features ``[M, F]``.
        regions: Those that are looked at.
        permutations: Of the slices' scans; None with too few scans for a test.
    """
    columns = np.concatenate([columns_of(region) for region in regions])
    one, other = comparable(real)[:, columns], comparable(synthetic)[:, columns]
    deviation = np.maximum(np.nanstd(one, axis=0, ddof=1), _DEVIATIONS[columns])
    shifts = (np.nanmean(other, axis=0) - np.nanmean(one, axis=0)) / deviation
    p_values = np.full(len(columns), np.nan)
    if permutations is not None:
        p_values = mean_shift_p_values(one, other, permutations)
    medians = [
        np.nanmedian(features[:, columns].astype(np.float64), axis=0) for features in (real, synthetic)
    ]
    found = [
        FeatureShift(
            name=FEATURES[column].name,
            region=FEATURES[column].region,
            unit=FEATURES[column].unit,
            real_median=float(medians[0][index]),
            synthetic_median=float(medians[1][index]),
            shift=float(shifts[index]),
            p_value=None if np.isnan(p_values[index]) else float(p_values[index]),
        )
        for index, column in enumerate(columns.tolist())
    ]
    return tuple(sorted(found, key=lambda shift: -abs(shift.shift)))


def _showing(features: NDArray[np.floating], region: Region) -> NDArray[np.floating]:
    """A region's features of the slices that show it."""
    values = features[:, columns_of(region)]
    return values[np.isfinite(values).all(axis=1)]


def _permuted_distances(values: NDArray[np.float64], permutations: ScanPermutations) -> NDArray[np.float64]:
    """The distance of features ``[N, D]`` for each division of the scans, from sums over each scan."""
    scans = permutations.membership
    sizes, sums = scans.sum(axis=0), scans.T @ values
    products = np.einsum("ns,nd,ne->sde", scans, values, values, optimize=True)
    distances = np.zeros(len(permutations.first))
    for start in range(0, len(distances), _BLOCK):
        one = permutations.first[start : start + _BLOCK].astype(np.float64)
        enough = np.minimum(one @ sizes, (1.0 - one) @ sizes) > 1
        first, second = (
            _moments(side @ sizes, side @ sums, np.tensordot(side, products, 1))
            for side in (one[enough], 1.0 - one[enough])
        )
        distances[start : start + _BLOCK][enough] = _distances(*first, *second)
    return distances


def _distances(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    other_mean: NDArray[np.float64],
    other_covariance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fréchet distances of many pairs of Gaussians: means ``[B, D]``, covariances ``[B, D, D]``."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    # The trace of (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of R^T C2 R, with C1 = R R^T.
    inner = np.linalg.eigvalsh(np.swapaxes(root, 1, 2) @ other_covariance @ root)
    crossed = np.sqrt(np.maximum(inner, 0.0)).sum(axis=1)
    traces = np.einsum("bdd->b", covariance) + np.einsum("bdd->b", other_covariance)
    shift = other_mean - mean
    distances: NDArray[np.float64] = (shift * shift).sum(axis=1) + traces - 2.0 * crossed
    return distances


def _moments(
    count: NDArray[np.float64], total: NDArray[np.float64], products: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means ``[B, D]`` and unbiased covariances ``[B, D, D]``."""
    mean = total / count[:, None]
    scatter = products - count[:, None, None] * mean[:, :, None] * mean[:, None, :]
    return mean, scatter / (count - 1)[:, None, None]

"""The Fréchet distance between two sets of feature vectors, from sums that many workers can share.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

#: Image counts, from half of the images to all, whose distances are extrapolated.
_EXTRAPOLATION_SIZES: Final = 6


@dataclass(frozen=True)
class GaussianSums:
    """Count, mean and scatter of a set of feature vectors: all that a Gaussian fit needs.

    The scatter is the sum of outer products of the deviations from the mean, not of the vectors
    themselves: that difference of two large values would lose the digits that a small variance needs.

    Attributes:
        count: Number of vectors.
        mean: ``[D]`` float64.
        scatter: ``[D, D]`` float64.
    """

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> "GaussianSums":
        """The sums of ``features [N, D]``, N at least 1."""
        values = np.asarray(features, dtype=np.float64)
        mean = values.mean(axis=0)
        deviations = values - mean
        return cls(len(values), mean, deviations.T @ deviations)

    def merge(self, other: "GaussianSums") -> "GaussianSums":
        """The sums of both sets together.

        The pairwise update of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances", 1979.
        """
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.count * other.count / count)
        return GaussianSums(count, mean, scatter)

    def covariance(self) -> NDArray[np.float64]:
        """The unbiased covariance ``[D, D]``; needs at least two vectors."""
        assert self.count > 1, "a covariance needs two vectors or more"
        return self.scatter / (self.count - 1)


def merge_all(sums: Iterable[GaussianSums]) -> GaussianSums:
    """The sums of all the sets together, in the order given."""
    return functools.reduce(GaussianSums.merge, sums)


def frechet_distance(first: GaussianSums, second: GaussianSums) -> float:
    """Squared Fréchet distance of the two Gaussian fits (the value that is reported as "FID").

    ``|m1 - m2|^2 + Tr(C1) + Tr(C2) - 2 Tr((C1 C2)^(1/2))``. The last trace is the sum of the singular
    values of ``C1^(1/2) C2^(1/2)``; with the roots from symmetric eigenvalues everything stays real, and
    covariances without full rank (fewer images than features) need no offset on the diagonal.

    Returns:
        The distance, float64, at least 0.
    """
    shift = first.mean - second.mean
    singular = scipy.linalg.svdvals(_root(first.covariance()).T @ _root(second.covariance()))
    traces = (np.trace(first.scatter) / (first.count - 1)) + (np.trace(second.scatter) / (second.count - 1))
    return max(0.0, float(shift @ shift + traces - 2.0 * singular.sum()))


def frechet_distance_of_features(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """The same distance from the feature vectors ``[N, D]`` and ``[M, D]``: cheaper for few of them.

    With centred vectors X and Y the singular values above are those of ``X Y^T / sqrt((N-1)(M-1))``,
    a matrix of N x M instead of D x D.
    """
    if min(len(first), len(second)) >= first.shape[1]:
        return frechet_distance(GaussianSums.of(first), GaussianSums.of(second))
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    shift = x.mean(axis=0) - y.mean(axis=0)
    x = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    y = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
    singular = scipy.linalg.svdvals(x @ y.T)
    return max(0.0, float(shift @ shift + (x * x).sum() + (y * y).sum() - 2.0 * singular.sum()))


def frechet_distance_without_bias(
    first: NDArray[np.floating], second: NDArray[np.floating], generator: np.random.Generator
) -> float | None:
    """The distance extrapolated to infinitely many images ("FD infinity"); it may fall below 0.

    Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", 2020, arXiv
    1911.07023: the bias falls with one over the image count, so the distances of random subsets against it
    lie on a line, whose value at 0 is wanted. That holds where the covariances have full rank.

    Args:
        first: ``[N, D]``.
        second: ``[M, D]``.
        generator: Draws the subsets.

    Returns:
        The value, or None where one of the sets has fewer than two images for each dimension.
    """
    largest = min(len(first), len(second))
    if largest < 2 * first.shape[1]:
        return None
    sizes = np.linspace(largest / 2, largest, _EXTRAPOLATION_SIZES).astype(int)
    distances = [
        frechet_distance_of_features(
            *(side[np.sort(generator.choice(len(side), size, replace=False))] for side in (first, second))
        )
        for size in sizes.tolist()
    ]
    return float(np.polynomial.polynomial.polyfit(1.0 / sizes, distances, 1)[0])


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A factor ``R [D, r]`` with ``R R^T`` the covariance, without the directions that hold nothing."""
    values, vectors = scipy.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])

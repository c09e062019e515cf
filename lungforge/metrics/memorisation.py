"""Memorisation: are synthetic images nearer to the training images than real ones from elsewhere are?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.neighbours import nearest_neighbours

#: Bootstrap draws of the scans behind an interval.
_DRAWS: Final = 1000


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, of synthetic images and of held-out real ones.

    Attributes:
        synthetic: Distance of each synthetic image, in the units of the features, float64 ``[N]``.
        held_out: The same of each held-out real image, float64 ``[M]``.
        nearest: For each synthetic image, which training image is nearest, int64 ``[N]``.
        ratio: Median of the synthetic distances over that of the held-out ones. 1: synthetic images are as
            far from the training images as real ones of other scans are; 0: they are copies.
        interval: 95 % bootstrap interval of the ratio, over the scans of both sides; None where a side is of
            one scan.
        closer_than_5_percent: Share of the synthetic images that are nearer to a training image than all
            but 5 % of the held-out ones; 0.05 without memorisation.
    """

    synthetic: NDArray[np.float64]
    held_out: NDArray[np.float64]
    nearest: NDArray[np.int64]
    ratio: float
    interval: tuple[float, float] | None
    closer_than_5_percent: float


def measure_memorisation(
    training: NDArray[np.floating],
    synthetic: NDArray[np.floating],
    synthetic_scans: Sequence[str],
    held_out: NDArray[np.floating],
    held_out_scans: Sequence[str],
    generator: np.random.Generator,
) -> Memorisation | None:
    """Compare how near synthetic and held-out real images come to the training images.

    Args:
        training: Features ``[T, D]`` of the images that the generator was trained on.
        synthetic: Features ``[N, D]``.
        synthetic_scans: The scan whose map each was generated from.
        held_out: Features ``[M, D]`` of real images of scans that are not among the training images.
        held_out_scans: The scan of each.
        generator: Draws the scans of the bootstrap.

    Returns:
        The comparison, or None when a set is empty or the held-out images equal training images.
    """
    if not min(len(training), len(synthetic), len(held_out)):
        return None
    nearest, distances = nearest_neighbours(synthetic, training)
    _, reference = nearest_neighbours(held_out, training)
    if np.median(reference) == 0:
        return None
    return Memorisation(
        synthetic=distances,
        held_out=reference,
        nearest=nearest,
        ratio=float(np.median(distances) / np.median(reference)),
        interval=_interval(distances, synthetic_scans, reference, held_out_scans, generator),
        closer_than_5_percent=float((distances < np.quantile(reference, 0.05)).mean()),
    )


def _interval(
    some: NDArray[np.float64],
    some_scans: Sequence[str],
    others: NDArray[np.float64],
    other_scans: Sequence[str],
    generator: np.random.Generator,
) -> tuple[float, float] | None:
    """Percentile interval of the ratio of the medians: slices of a scan are alike, so scans are resampled."""
    if min(len(set(some_scans)), len(set(other_scans))) < 2:
        return None
    tops = _bootstrap_medians(some, some_scans, generator)
    bottoms = _bootstrap_medians(others, other_scans, generator)
    # Scans that lie on training images make some of the lower medians 0; such a ratio is unbounded.
    ratios = np.divide(tops, bottoms, out=np.full(_DRAWS, np.inf), where=bottoms > 0)
    low, high = np.quantile(ratios, [0.025, 0.975], method="inverted_cdf").tolist()
    return low, high


def _bootstrap_medians(
    values: NDArray[np.float64], scans: Sequence[str], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Medians ``[_DRAWS]`` over the values of as many scans as there are, drawn with replacement."""
    _, members = np.unique(np.asarray(scans), return_inverse=True)
    order = np.argsort(members, kind="stable")
    groups = np.split(values[order], np.cumsum(np.bincount(members))[:-1])
    draws = generator.integers(len(groups), size=(_DRAWS, len(groups)))
    return np.array([np.median(np.concatenate([groups[scan] for scan in draw])) for draw in draws])

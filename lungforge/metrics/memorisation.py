"""Memorisation: are synthetic images nearer to the training images than real ones of other patients are?

A generator that repeats a few of its training images moves no median. So the tail is judged: the share of
synthetic images that are nearer to a training image than real images of other patients ever are (as in Dar
et al. 2025, Unconditional latent diffusion models memorize patient imaging data).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.neighbours import nearest_neighbours

#: Bootstrap draws of the patients behind an interval.
_DRAWS: Final = 1000
#: "Ever": nearer than all but this share of the real images. Of a hundred or fewer that is the nearest one;
#: of more, the single nearest would say less the more there are.
TAIL: Final = 0.01


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, of synthetic images and of held-out real ones.

    Attributes:
        synthetic: Distance of each synthetic image, in the units of the features, float64 ``[N]``.
        held_out: The same of each held-out real image, float64 ``[M]``.
        nearest: For each synthetic image, which training image is nearest, int64 ``[N]``.
        tail_distance: What real images of other patients hardly ever fall below: the ``tail_rank``-th
            smallest distance of the held-out ones.
        tail_share: Share of the synthetic images that are nearer to a training image than that.
        tail_expected: The share that is expected of images as far away as the held-out ones are.
        tail_interval: 95 % bootstrap interval of ``tail_share``, over the patients of both sides; None where
            a side is of one patient.
        ratio: Median of the synthetic distances over that of the held-out ones. 1: synthetic images are as
            far from the training images as real ones of other patients are; 0: they are copies.
        interval: 95 % bootstrap interval of the ratio; None where ``tail_interval`` is.
        closer_than_5_percent: Share of the synthetic images that are nearer to a training image than all
            but 5 % of the held-out ones; 0.05 without memorisation.
    """

    synthetic: NDArray[np.float64]
    held_out: NDArray[np.float64]
    nearest: NDArray[np.int64]
    tail_distance: float
    tail_share: float
    tail_expected: float
    tail_interval: tuple[float, float] | None
    ratio: float
    interval: tuple[float, float] | None
    closer_than_5_percent: float


def measure_memorisation(
    training: NDArray[np.floating],
    synthetic: NDArray[np.floating],
    synthetic_patients: Sequence[str],
    held_out: NDArray[np.floating],
    held_out_patients: Sequence[str],
    generator: np.random.Generator,
) -> Memorisation | None:
    """Compare how near synthetic and held-out real images come to the training images.

    Args:
        training: Features ``[T, D]`` of the images that the generator was trained on.
        synthetic: Features ``[N, D]``.
        synthetic_patients: The patient whose map each was generated from.
        held_out: Features ``[M, D]`` of real images of patients that are not among the training images.
        held_out_patients: The patient of each.
        generator: Draws the patients of the bootstrap.

    Returns:
        The comparison, or None when a set is empty or the held-out images equal training images.
    """
    if not min(len(training), len(synthetic), len(held_out)):
        return None
    nearest, distances = nearest_neighbours(synthetic, training)
    _, reference = nearest_neighbours(held_out, training)
    if np.median(reference) == 0:
        return None
    rank = tail_rank(len(reference))
    distance = float(np.partition(reference, rank - 1)[rank - 1])
    ratios, shares = None, None
    if min(len(set(synthetic_patients)), len(set(held_out_patients))) > 1:
        ratios, shares = _intervals(distances, synthetic_patients, reference, held_out_patients, generator)
    return Memorisation(
        synthetic=distances,
        held_out=reference,
        nearest=nearest,
        tail_distance=distance,
        tail_share=float((distances < distance).mean()),
        tail_expected=rank / (len(reference) + 1),
        tail_interval=shares,
        ratio=float(np.median(distances) / np.median(reference)),
        interval=ratios,
        closer_than_5_percent=float((distances < np.quantile(reference, 0.05)).mean()),
    )


def tail_rank(count: int) -> int:
    """Which of so many distances, 1 the smallest, is what real images hardly ever fall below."""
    return max(1, int(TAIL * count))


def _intervals(
    some: NDArray[np.float64],
    some_patients: Sequence[str],
    others: NDArray[np.float64],
    other_patients: Sequence[str],
    generator: np.random.Generator,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile intervals of the ratio of the medians, and of the share in the tail.

    Slices of a patient are alike, so patients are resampled, on both sides.
    """
    ratios, shares = np.empty(_DRAWS), np.empty(_DRAWS)
    some_groups, other_groups = _by_patient(some, some_patients), _by_patient(others, other_patients)
    for draw in range(_DRAWS):
        ours, theirs = _redrawn(some_groups, generator), _redrawn(other_groups, generator)
        # Patients that lie on training images make some of the medians 0; such a ratio is unbounded.
        middle = np.median(theirs)
        ratios[draw] = np.median(ours) / middle if middle > 0 else np.inf
        rank = tail_rank(len(theirs))
        shares[draw] = (ours < np.partition(theirs, rank - 1)[rank - 1]).mean()
    return _middle_95_percent(ratios), _middle_95_percent(shares)


def _by_patient(values: NDArray[np.float64], patients: Sequence[str]) -> list[NDArray[np.float64]]:
    _, members = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(members, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(members))[:-1])


def _redrawn(groups: Sequence[NDArray[np.float64]], generator: np.random.Generator) -> NDArray[np.float64]:
    """The values of as many patients as there are, drawn with replacement."""
    return np.concatenate([groups[one] for one in generator.integers(len(groups), size=len(groups))])


def _middle_95_percent(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf").tolist()
    return low, high

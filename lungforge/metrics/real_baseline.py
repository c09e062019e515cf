"""The real-vs-real baseline: how far apart two halves of the real images are.

A Fréchet distance of few images is far above zero even between real and real, and it falls as the image count
grows. A perfect generator would reach this baseline: read a distance beside it,
at the same image count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BaselineComparison:
    """Synthetic vs real, and real vs real, at the same image count.

    Attributes:
        images: Images on each side of every distance here.
        repeats: How many random halves.
        real_mean: Mean distance between two halves of the real images, no scan in both.
        real_spread: Its standard deviation over the halves.
        synthetic_mean: Mean distance of as many synthetic images to one of those halves.
        synthetic_spread: Its standard deviation.
    """

    images: int
    repeats: int
    real_mean: float
    real_spread: float
    synthetic_mean: float
    synthetic_spread: float


def halves_by_group(
    groups: Sequence[str], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of two halves of about equal size in which no group (scan) has images in both.

    Groups go one by one, in random order, to the half that is smaller.

    Raises:
        ValueError: All images are of one group.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("two halves without a common scan need at least two scans")
    halves: tuple[list[int], list[int]] = ([], [])
    for group in generator.permutation(len(names)):
        smaller = halves[0] if len(halves[0]) <= len(halves[1]) else halves[1]
        smaller.extend(np.flatnonzero(members == group).tolist())
    return np.sort(halves[0]), np.sort(halves[1])


def compare_with_baseline(
    real: NDArray[np.floating],
    groups: Sequence[str],
    synthetic: NDArray[np.floating],
    distance: Callable[[NDArray[np.floating], NDArray[np.floating]], float],
    generator: np.random.Generator,
    *,
    repeats: int = 10,
    fewest: int = 2,
) -> BaselineComparison | None:
    """Distances at equal image counts, over random halves of the real images.

    Args:
        real: Features ``[N, D]`` of the real images.
        groups: The scan of each of them.
        synthetic: Features ``[M, D]``.
        distance: Of two sets of features, real ones first; or another measure of two sets.
        generator: Draws the halves and the subsets.
        repeats: How many halves.
        fewest: Images that the distance needs on each side, at least.

    Returns:
        The comparison, or None when the real images are of one scan or too few.
    """
    if len(set(groups)) < 2 or len(synthetic) < fewest:
        return None
    splits = [halves_by_group(groups, generator) for _ in range(repeats)]
    images = min(len(synthetic), *(len(half) for split in splits for half in split))
    if images < fewest:
        return None

    def draw(count: int) -> NDArray[np.int64]:
        return np.sort(generator.choice(count, images, replace=False))

    baselines, distances = [], []
    for first, second in splits:
        reference = real[first[draw(len(first))]]
        baselines.append(distance(reference, real[second[draw(len(second))]]))
        distances.append(distance(reference, synthetic[draw(len(synthetic))]))
    return BaselineComparison(
        images=images,
        repeats=repeats,
        real_mean=float(np.mean(baselines)),
        real_spread=float(np.std(baselines, ddof=1)),
        synthetic_mean=float(np.mean(distances)),
        synthetic_spread=float(np.std(distances, ddof=1)),
    )

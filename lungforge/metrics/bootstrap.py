"""Intervals of a difference between two ways to train, by a paired bootstrap.

Two things would differ if the study were repeated: the scans that are tested on, and the trained networks
(their folds and seeds). Both are resampled with replacement, in the same way for both sides: slices of one
scan stay together, and a network is compared with the one of the same fold and seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A difference and where it lies.

    Attributes:
        difference: Over all scans and networks.
        low: Lower end of the interval.
        high: Upper end.
        draws: Draws of the bootstrap that count; those that leave a measure undefined do not.
    """

    difference: float
    low: float
    high: float
    draws: int


def scan_weights(scans: Sequence[str], draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each example counts in each draw of the scans, ``[draws + 1, N]``; the first row is all ones.

    Args:
        scans: The scan of each example.
        draws: How many.
        generator: Draws.
    """
    names, members = np.unique(np.asarray(scans), return_inverse=True)
    counts = generator.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(members))), counts[:, members].astype(np.float64)])


def paired_interval(
    values: NDArray[np.float64], baseline: NDArray[np.float64], generator: np.random.Generator
) -> Interval:
    """The 95 % interval of ``values`` less ``baseline``.

    Args:
        values: ``[C, B + 1]``: of each network (fold and seed) over the draws of :func:`scan_weights`.
        baseline: The same of the other way to train, its networks of the same folds and seeds.
        generator: Draws the networks.
    """
    assert values.shape == baseline.shape, "the networks of both sides go in pairs"
    differences = values - baseline
    networks, draws = len(differences), differences.shape[1] - 1
    counts = generator.multinomial(networks, np.full(networks, 1.0 / networks), size=draws).T / networks
    means = (differences[:, 1:] * counts).sum(axis=0)
    means = means[np.isfinite(means)]
    low, high = np.percentile(means, [2.5, 97.5]) if len(means) else (np.nan, np.nan)
    return Interval(float(differences[:, 0].mean()), float(low), float(high), len(means))

"""The averaging profiles of weights: how much each step of a training counts in an average of them.

A power-function average after t steps has a profile that grows as s^γ over the steps s: the same in shape
after any count of steps. One number describes it, its relative length: the standard deviation of s under the
profile, divided by t. Several such averages, kept on the way, add up to one of another length afterwards
(Karras et al., arXiv 2312.02696, section 3 and appendix C).
"""

import functools
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

#: Lengths of the averages that a training can keep. At 0.289, all steps count alike (γ = 0).
SHORTEST: Final = 0.01
LONGEST: Final = 0.28
#: Lengths of the two averages that snapshots are taken of (section 3.2 of the paper).
SNAPSHOT_LENGTHS: Final = (0.05, 0.1)
#: Lengths that can be made of the snapshots: the profile is then off by less than a tenth.
SHORTEST_REBUILT: Final = 0.015
LONGEST_REBUILT: Final = 0.2
#: Snapshots of each of the two.
_SNAPSHOTS: Final = 8
#: Steps that are told apart in a fit; in a longer run, neighbours count together.
_FITTED_STEPS: Final = 10_000


class Taken(Protocol):
    """An average that was kept on the way."""

    @property
    def length(self) -> float:
        """Its relative length."""

    @property
    def updates(self) -> int:
        """Steps that it is of."""


@functools.cache
def exponent(length: float) -> float:
    """The γ of a relative length, which is the standard deviation of a profile that grows as t^γ on [0, 1].

    Solves ``length = (γ+1)^(1/2) (γ+2)^(-1) (γ+3)^(-1/2)`` for its largest root.

    Args:
        length: From ``SHORTEST`` to ``LONGEST``.
    """
    assert 0 < length <= LONGEST, length
    inverse = length**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(roots.real.max())


def decay(length: float, update: int) -> float:
    """What an average keeps of itself in update 1, 2, ...: ``(1 - 1/t)^(γ+1)``; of its start, nothing."""
    return float((1 - 1 / update) ** (exponent(length) + 1))


def profile(length: float, updates: int, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much steps count in an average after ``updates`` of them.

    Args:
        length: Relative length of the average.
        updates: Steps that it is of, t.
        edges: Counts of steps, ascending [N + 1]; ``0, 1, 2, ...`` for each step alone.

    Returns:
        How much the steps between two edges count together, [N]: ``(b^(γ+1) - a^(γ+1)) / t^(γ+1)`` for those
        from a to b, which is what ``decay`` comes to; steps after t count nothing.
    """
    return np.diff(np.minimum(edges / updates, 1) ** (exponent(length) + 1))


def snapshot_steps(steps: int) -> tuple[int, ...]:
    """After which steps of a run snapshots are taken: denser towards its end, and at the end.

    Short averages need steps near the end: with evenly spread snapshots, the profile of a length of 0.02 is
    off six times as much, and that of 0.08 twice as much.
    """
    after = {round(steps * (1 - (1 - index / _SNAPSHOTS) ** 2)) for index in range(1, _SNAPSHOTS + 1)}
    return tuple(sorted(after - {0}))


def combination(snapshots: Sequence[Taken], length: float) -> tuple[NDArray[np.float64], float]:
    """What to multiply snapshots by so that they add up to the average of another length at the end.

    The profile is fitted by least squares, as in appendix C of the paper, but over steps instead of by
    integrals, which is exact for short runs too. The factors sum to 1, so that weights that never moved stay
    as they are.

    Args:
        snapshots: At least two; the last step of the run is that of the latest.
        length: Relative length of the average.

    Returns:
        The factors [snapshots], and the error of the profile relative to the wanted one (root of the sum of
        squares over steps).
    """
    steps = max(snapshot.updates for snapshot in snapshots)
    edges = np.linspace(0, steps, min(steps, _FITTED_STEPS) + 1)
    columns = np.stack([profile(each.length, each.updates, edges) for each in snapshots], axis=1)
    wanted = profile(length, steps, edges)
    # The last factor is what the others leave of 1.
    last = columns[:, -1:]
    others = np.linalg.lstsq(columns[:, :-1] - last, wanted - last[:, 0])[0]
    factors = np.append(others, 1 - others.sum())
    error = np.linalg.norm(columns @ factors - wanted) / np.linalg.norm(wanted)
    return factors, float(error)

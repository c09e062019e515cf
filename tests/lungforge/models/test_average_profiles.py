"""How much each step counts in an average of a relative length, against the formulas of the paper."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from lungforge.models.average_profiles import (
    LONGEST,
    LONGEST_REBUILT,
    SHORTEST,
    SHORTEST_REBUILT,
    SNAPSHOT_LENGTHS,
    combination,
    decay,
    exponent,
    profile,
    snapshot_steps,
)


@dataclass(frozen=True)
class _Taken:
    length: float
    updates: int


def _snapshots(steps: int) -> list[_Taken]:
    return [_Taken(length, taken) for taken in snapshot_steps(steps) for length in SNAPSHOT_LENGTHS]


def _length(gamma: float) -> float:
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


@pytest.mark.parametrize(
    # The values that the paper states for its two averages (section 3.2).
    ("length", "gamma"),
    [(0.05, 16.97), (0.1, 6.94)],
)
def test_the_exponents_of_the_paper(length: float, gamma: float) -> None:
    assert exponent(length) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("length", [SHORTEST, 0.03, 0.08, 0.15, 0.25, LONGEST])
def test_the_exponent_solves_the_formula_of_the_length(length: float) -> None:
    assert exponent(length) > 0
    assert _length(exponent(length)) == pytest.approx(length, rel=1e-9)


def test_the_longest_average_has_all_steps_alike() -> None:
    assert _length(0) == pytest.approx(12**-0.5)
    assert _length(0) - 0.01 < LONGEST < _length(0)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_a_length_is_the_standard_deviation_of_the_steps_relative_to_their_count(length: float) -> None:
    steps = 20_000
    counts = profile(length, steps, np.arange(steps + 1.0))
    places = (np.arange(steps) + 0.5) / steps
    mean = (counts * places).sum()
    assert counts.sum() == pytest.approx(1)
    assert math.sqrt((counts * (places - mean) ** 2).sum()) == pytest.approx(length, rel=1e-6)


def test_decays_multiply_to_the_profile() -> None:
    steps, written_out = 50, np.zeros(50)
    for step in range(1, steps + 1):
        written_out *= decay(0.07, step)
        written_out[step - 1] = 1 - decay(0.07, step)
        later = profile(0.07, step, np.arange(steps + 1.0))
        assert np.allclose(later, written_out, rtol=1e-10, atol=1e-15)
    assert decay(0.07, 1) == 0  # the random start counts nothing


def test_snapshots_lie_denser_at_the_end() -> None:
    assert snapshot_steps(6400) == (1500, 2800, 3900, 4800, 5500, 6000, 6300, 6400)
    assert snapshot_steps(9) == (2, 4, 5, 7, 8, 9)
    assert snapshot_steps(1) == (1,)


@pytest.mark.parametrize("length", SNAPSHOT_LENGTHS)
@pytest.mark.parametrize("steps", [1, 7, 300, 80_000])
def test_the_combination_of_a_length_that_was_followed_is_its_last_snapshot(
    length: float, steps: int
) -> None:
    snapshots = _snapshots(steps)
    factors, error = combination(snapshots, length)
    assert error < 1e-8
    assert np.allclose(sum(
        factor * profile(each.length, each.updates, np.arange(steps + 1.0))
        for factor, each in zip(factors, snapshots, strict=True)
    ), profile(length, steps, np.arange(steps + 1.0)), atol=1e-10)  # fmt: skip


@pytest.mark.parametrize(
    ("length", "largest"),
    [(SHORTEST_REBUILT, 0.1), (0.03, 0.02), (0.07, 0.005), (0.15, 0.03), (LONGEST_REBUILT, 0.1)],
)
@pytest.mark.parametrize("steps", [300, 3000, 80_000])
def test_lengths_that_can_be_rebuilt_are_off_by_little(length: float, largest: float, steps: int) -> None:
    snapshots = _snapshots(steps)
    factors, error = combination(snapshots, length)
    assert error < largest
    assert factors.sum() == pytest.approx(1)
    # Over each step alone, however long the run.
    edges = np.arange(steps + 1.0)
    made = sum(
        factor * profile(each.length, each.updates, edges)
        for factor, each in zip(factors, snapshots, strict=True)
    )
    wanted = profile(length, steps, edges)
    assert np.linalg.norm(made - wanted) / np.linalg.norm(wanted) == pytest.approx(error, rel=0.02)

"""Intervals over networks and scans: they cover as often as they say, and are not wider than that."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lungforge.metrics import hierarchical
from lungforge.metrics.hierarchical import simultaneous_intervals

#: Five arms, each compared with the three references before it.
NINE = [(arm, other) for arm in range(5) for other in range(min(arm, 3))]


def _values(
    generator: np.random.Generator, scans: int, networks: int, spreads: tuple[float, float, float], arms: int
) -> NDArray[np.float64]:
    """Arms that are equal but for chance: a mean over scans, for each network, over all scans and 200 draws.

    Args:
        generator: Draws.
        scans: How many.
        networks: How many.
        spreads: Of what is an arm's in a network, in a scan, and in a network on a scan.
        arms: How many.
    """
    of_networks, of_scans, of_both = spreads
    each = of_networks * generator.standard_normal((arms, networks, 1))
    each = each + of_scans * generator.standard_normal((arms, 1, scans))
    each = each + of_both * generator.standard_normal((arms, networks, scans))
    # What all arms share, and no difference has.
    each += generator.standard_normal((networks, 1)) + 2.0 * generator.standard_normal(scans)
    # How often each scan is drawn, 200 times; a tenth of the time of multinomial().
    drawn = generator.integers(scans, size=(200, scans)) + scans * np.arange(200)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=200 * scans).reshape(200, scans)
    weights = np.concatenate([np.ones((1, scans)), counts]) / scans
    return each @ weights.T


def _coverage(scans: int, networks: int, spreads: tuple[float, float, float], trials: int, **family) -> float:
    """How often all intervals of a family cover the truth, which is that nothing differs."""
    pairs = family.get("pairs", [(1, 0)])
    generator = np.random.default_rng([scans, networks, len(pairs)])
    covered = 0
    for _ in range(trials):
        values = _values(generator, scans, networks, spreads, max(max(pairs)) + 1)
        intervals = simultaneous_intervals(values, pairs, scans, generator)
        covered += all(interval.low <= 0 <= interval.high for interval in intervals)
    return covered / trials


SPREADS = {
    "networks alone": (1.0, 0.0, 0.2),
    "networks mostly": (0.4, 0.4, 0.3),
    "both": (0.1, 0.6, 0.5),
    "scans mostly": (0.01, 1.0, 0.2),
    "their interaction": (0.0, 0.0, 1.0),
}


@pytest.mark.parametrize("spreads", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("scans", [20, 100])
def test_five_networks_cover_with_95_percent(scans: int, spreads: tuple[float, float, float]) -> None:
    assert 0.93 <= _coverage(scans, 5, spreads, 500) <= 0.998


@pytest.mark.slow
@pytest.mark.parametrize("spreads", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize(("scans", "networks"), [(20, 5), (100, 5), (60, 3), (60, 10), (200, 25)])
def test_one_difference_is_covered_with_95_percent(
    scans: int, networks: int, spreads: tuple[float, float, float]
) -> None:
    assert 0.935 <= _coverage(scans, networks, spreads, 4000) <= 0.995


def test_many_networks_and_scans_are_not_wider_than_what_is_known() -> None:
    generator = np.random.default_rng(3)
    widths = []
    for _ in range(30):
        values = _values(generator, 400, 60, (0.5, 0.5, 0.5), 2)
        (interval,) = simultaneous_intervals(values, [(1, 0)], 400, generator)
        widths.append(interval.high - interval.low)
    # Two arms; 60 networks; 400 scans.
    known = np.sqrt(2 * (0.25 / 60 + 0.25 / 400 + 0.25 / 60 / 400))
    assert np.mean(widths) == pytest.approx(2 * 1.96 * known, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("spreads", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize(("scans", "networks"), [(20, 5), (100, 5), (60, 3), (60, 10)])
def test_nine_differences_cover_together(
    scans: int, networks: int, spreads: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hierarchical, "_REPEATS", 1000)
    assert _coverage(scans, networks, spreads, 1500, pairs=NINE) >= 0.93


def test_nine_differences_cover_together_where_networks_dominate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "_REPEATS", 1000)
    # 95 % of 200, less a standard error.
    assert _coverage(40, 5, SPREADS["networks mostly"], 200, pairs=NINE) >= 0.93


def test_an_interval_is_students_t_where_only_networks_differ() -> None:
    differences = np.array([0.1, 0.3, 0.2, 0.5, 0.4])
    values = np.stack([np.broadcast_to(differences[:, None], (5, 101)), np.zeros((5, 101))])
    (interval,) = simultaneous_intervals(values, [(0, 1)], 30, np.random.default_rng(0))
    wanted = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))
    assert (interval.estimate, interval.draws) == (pytest.approx(0.3), 100)


def test_an_interval_is_students_t_where_only_scans_differ() -> None:
    generator = np.random.default_rng(1)
    of_scans = generator.normal(0.2, 1.0, 40)
    counts = generator.multinomial(40, np.full(40, 1 / 40), size=50_000)
    weights = np.concatenate([np.ones((1, 40)), counts]) / 40
    values = np.stack([np.tile(weights @ of_scans, (6, 1)), np.zeros((6, 50_001))])
    (interval,) = simultaneous_intervals(values, [(0, 1)], 40, generator)
    wanted = stats.ttest_1samp(of_scans, 0.0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high), abs=0.01)


def test_several_independent_differences_have_sidaks_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchical, "_REPEATS", 30_000)
    # Six arms in pairs of their own, and no influence of the scans.
    generator = np.random.default_rng(2)
    values = np.broadcast_to(generator.normal(size=(6, 40, 1)), (6, 40, 3))
    intervals = simultaneous_intervals(values, [(0, 1), (2, 3), (4, 5)], 30, generator)
    for (first, second), interval in zip([(0, 1), (2, 3), (4, 5)], intervals, strict=True):
        error = (values[first, :, 0] - values[second, :, 0]).std(ddof=1) / 40**0.5
        reach = (interval.high - interval.low) / 2
        assert reach / error == pytest.approx(stats.t.ppf(1 - (1 - 0.95 ** (1 / 3)) / 2, 39), rel=0.015)


def test_what_both_sides_share_is_no_uncertainty() -> None:
    # Networks that differ widely, and always by the same 0.05 between the two ways to train.
    generator = np.random.default_rng(1)
    baseline = generator.uniform(0.3, 0.9, (5, 1)) + generator.normal(0, 0.1, (5, 1001))
    (interval,) = simultaneous_intervals(np.stack([baseline + 0.05, baseline]), [(0, 1)], 20, generator)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.05, 0.05, 0.05))


def test_draws_without_a_value_do_not_count() -> None:
    values = np.random.default_rng(4).normal(size=(2, 3, 101))
    values[0, 1, 1:11] = np.nan
    (interval,) = simultaneous_intervals(values, [(0, 1)], 20, np.random.default_rng(4))
    assert interval.draws == 90
    assert np.isfinite([interval.low, interval.high]).all()


@pytest.mark.parametrize("missing", ["networks", "scans", "values"])
def test_without_a_second_network_or_scan_there_is_no_interval(missing: str) -> None:
    values = np.random.default_rng(5).normal(size=(2, 1 if missing == "networks" else 4, 11))
    if missing == "values":
        values[:, 0] = np.nan
    scans = 1 if missing == "scans" else 9
    (interval,) = simultaneous_intervals(values, [(0, 1)], scans, np.random.default_rng(5))
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(interval.estimate) == (missing == "values")


def test_equal_arms_among_others_have_no_width_and_spoil_nothing() -> None:
    values = np.random.default_rng(6).normal(size=(3, 5, 101))
    values[1] = values[0]
    equal, other = simultaneous_intervals(values, [(1, 0), (2, 0)], 20, np.random.default_rng(6))
    assert (equal.low, equal.high) == (0.0, 0.0)
    assert equal.has_no_width
    assert not other.has_no_width
    (alone,) = simultaneous_intervals(values, [(2, 0)], 20, np.random.default_rng(6))
    assert (other.low, other.high) == (alone.low, alone.high)

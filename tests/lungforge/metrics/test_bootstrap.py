"""The paired bootstrap: coverage, pairs, and scans that stay together."""

import numpy as np
import pytest

from lungforge.metrics.bootstrap import paired_interval, scan_weights


def test_slices_of_a_scan_are_resampled_together() -> None:
    weights = scan_weights(["a", "b", "a", "c"], 500, np.random.default_rng(0))
    assert weights.shape == (501, 4)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    # As many scans as there are, however many slices each has.
    assert (weights[1:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights[1:, 1].mean() == pytest.approx(1.0, abs=0.1)


def test_what_both_sides_share_is_no_uncertainty() -> None:
    # Networks that differ widely, and always by the same 0.05 between the two ways to train.
    generator = np.random.default_rng(1)
    baseline = generator.uniform(0.3, 0.9, (5, 1)) + generator.normal(0, 0.1, (5, 1001))
    interval = paired_interval(baseline + 0.05, baseline, np.random.default_rng(2))
    assert (interval.difference, interval.low, interval.high) == pytest.approx((0.05, 0.05, 0.05))
    assert interval.draws == 1000


def test_the_networks_uncertainty_is_in_the_interval() -> None:
    # Every scan alike, so that only the networks differ: half of them by +0.1, half by -0.1.
    difference = np.repeat([[0.1], [-0.1]], 10, axis=0)
    values = np.broadcast_to(difference, (20, 2001))
    interval = paired_interval(values, np.zeros((20, 2001)), np.random.default_rng(3))
    # The mean of 20 such samples has a standard deviation of 0.1 / sqrt(20).
    assert interval.high == pytest.approx(1.96 * 0.1 / np.sqrt(20), abs=0.01)
    assert interval.low == pytest.approx(-interval.high, abs=0.01)


def test_resamples_without_a_value_do_not_count() -> None:
    values = np.full((2, 11), 0.5)
    values[0, 1:4] = np.nan
    interval = paired_interval(values, np.zeros((2, 11)), np.random.default_rng(4))
    assert 7 <= interval.draws <= 10
    assert (interval.low, interval.high) == (0.5, 0.5)
    nothing = paired_interval(np.full((1, 5), np.nan), np.zeros((1, 5)), np.random.default_rng(5))
    assert nothing.draws == 0
    assert np.isnan([nothing.low, nothing.high]).all()


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # Scans whose two values differ by 0.2 on average; the mean over scans is measured, 200 times.
    covered = 0
    for trial in range(200):
        generator = np.random.default_rng([6, trial])
        difference = generator.normal(0.2, 1.0, 60)
        weights = scan_weights([str(scan) for scan in range(60)], 400, generator)
        values = (weights * difference).sum(axis=1) / weights.sum(axis=1)
        interval = paired_interval(values[None], np.zeros((1, 401)), generator)
        covered += interval.low <= 0.2 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99

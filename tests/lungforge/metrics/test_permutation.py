import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.metrics.permutation import mean_shift_p_values, p_value, permute_scans


def scans_of(count, per_scan, name="scan"):
    return [f"{name} {index // per_scan}" for index in range(count)]


@settings(deadline=None, max_examples=30)
@given(sizes=st.tuples(st.integers(3, 9), st.integers(3, 9)), per_scan=st.integers(1, 4))
def test_whole_scans_change_sides_and_as_many_stay_on_each(sizes, per_scan):
    first, second = (scans_of(size * per_scan, per_scan) for size in sizes)
    permutations = permute_scans(first, second, np.random.default_rng(0), 50)
    assert permutations.first.shape == (51, sum(sizes))
    assert (permutations.first.sum(axis=1) == sizes[0]).all()
    # As they are: the images of the first set on the first side. A scan of both sets is two.
    np.testing.assert_array_equal(
        permutations.first[0][permutations.units], np.arange(len(first) + len(second)) < len(first)
    )
    assert len(np.unique(permutations.units)) == sum(sizes)
    np.testing.assert_array_equal(permutations.membership.sum(axis=0), np.full(sum(sizes), per_scan))


@pytest.mark.parametrize(
    ("first", "second", "enough"), [(1, 30, False), (2, 4, False), (3, 3, True), (2, 6, True)]
)
def test_with_few_scans_no_p_value_can_be_small(first, second, enough):
    # 6 over 2 is 15, 6 over 3 is 20, 8 over 2 is 28.
    permutations = permute_scans(scans_of(first * 5, 5), scans_of(second * 5, 5), np.random.default_rng(0))
    assert (permutations is not None) == enough


def test_of_each_scan_as_many_slices_take_part_as_the_sparser_set_has_of_one():
    first, second = [f"a {scan}" for scan in (0, 0, 0, 0, 1, 1, 2, 2, 2)], scans_of(12, 6) + ["b"] * 2
    # 9 slices of 3 scans, 14 of 3: three of each scan at most.
    permutations = permute_scans(first, second, np.random.default_rng(0), 10)
    np.testing.assert_array_equal(permutations.membership.sum(axis=0), [3, 2, 3, 2, 3, 3])
    assert permutations.taking_part.sum() == 16
    some = permutations.keep(np.array([0, 1, 2, 3, 22]))
    assert some.membership.shape == (5, 6)
    assert some.taking_part[:4].sum() == 3


def test_p_values_count_the_permutations_that_are_as_extreme():
    assert p_value(np.array([5.0, 1, 2, 3])) == 1 / 4
    assert p_value(np.array([2.0, 1, 2, 3])) == 3 / 4
    assert p_value(np.array([0.3, 0.1 + 0.2, 0.1, 0.1])) == 2 / 4  # equal but for rounding


def test_mean_shift_equals_the_written_out_test_over_all_divisions():
    generator = np.random.default_rng(3)
    first, second = generator.normal([0.0, 1.5, 0.0], size=(8, 3)), generator.normal(size=(10, 3))
    first[2, 0] = second[5, 1] = np.nan
    groups = scans_of(8, 2), scans_of(10, 2, "other")
    permutations = permute_scans(*groups, np.random.default_rng(0), 20_000)
    names = sorted(set(groups[0])) + sorted(set(groups[1]))
    assert permutations.taking_part.all()
    pooled, scans = np.concatenate([first, second]), np.array([*groups[0], *groups[1]])

    def statistics(chosen):
        side = np.isin(scans, [names[index] for index in chosen])
        found = []
        for feature in pooled.T:
            there = ~np.isnan(feature)
            a, b = feature[side & there], feature[~side & there]
            error = np.sqrt(feature[there].var(ddof=1) * (1 / len(a) + 1 / len(b)))
            found.append(abs(a.mean() - b.mean()) / error)
        return np.array(found)

    observed = statistics(range(4))
    largest = [statistics(chosen).max() for chosen in itertools.combinations(range(9), 4)]
    exact = [(np.array(largest) >= value - 1e-9).mean() for value in observed]
    np.testing.assert_allclose(mean_shift_p_values(first, second, permutations), exact, atol=0.015)


def test_scans_of_one_distribution_raise_no_alarm_though_their_slices_are_alike():
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        sides = [
            generator.normal(size=(12, 1, 4)) + 0.2 * generator.normal(size=(12, 6, 4)) for _ in range(2)
        ]
        first, second = (side.reshape(-1, 4) for side in sides)
        permutations = permute_scans(scans_of(72, 6), scans_of(72, 6), generator, 199)
        alarms += mean_shift_p_values(first, second, permutations).min() <= 0.05
    assert 1 <= alarms <= 21  # 10 expected; permuted by slice it would be nearly all


def test_a_set_of_many_slices_a_scan_and_one_of_few_raise_no_alarm():
    """Independent slices: mixed with scans of eight, a scan of one is a small part of the mean."""
    generator = np.random.default_rng(2)
    alarms = 0
    for _ in range(200):
        first, second = generator.normal(size=(30, 4)), generator.normal(size=(240, 4))
        permutations = permute_scans(scans_of(30, 1), scans_of(240, 8), generator, 199)
        alarms += mean_shift_p_values(first, second, permutations).min() <= 0.05
    assert 1 <= alarms <= 21


def test_a_feature_without_values_or_variance_is_not_tested():
    first, second = np.zeros((6, 2)), np.zeros((6, 2))
    first[:, 1] = np.nan
    p_values = mean_shift_p_values(
        first, second, permute_scans(scans_of(6, 1), scans_of(6, 1), np.random.default_rng(0))
    )
    assert p_values[0] == 1.0
    assert np.isnan(p_values[1])

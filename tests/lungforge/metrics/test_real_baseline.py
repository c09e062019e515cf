import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.real_baseline import compare_with_baseline, halves_by_group


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    seed=st.integers(0, 2**32),
)
def test_halves_share_no_scan_hold_all_and_differ_by_at_most_one_scan(sizes, seed):
    groups = [f"scan {number}" for number, size in enumerate(sizes) for _ in range(size)]
    first, second = halves_by_group(groups, np.random.default_rng(seed))
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert not {groups[index] for index in first} & {groups[index] for index in second}
    assert abs(len(first) - len(second)) <= max(sizes)


def test_one_scan_has_no_halves():
    with pytest.raises(ValueError, match="two scans"):
        halves_by_group(["a", "a"], np.random.default_rng(0))
    features = np.zeros((2, 3))
    assert (
        compare_with_baseline(
            features, ["a", "a"], features, frechet_distance_of_features, np.random.default_rng(0)
        )
        is None
    )


def test_slices_of_the_real_distribution_reach_the_baseline_and_others_do_not():
    generator = np.random.default_rng(0)
    real = generator.normal(size=(120, 16))
    groups = [f"scan {index // 3}" for index in range(120)]
    near, far = generator.normal(size=(500, 16)), generator.normal(size=(500, 16)) + 1

    def compare(synthetic):
        return compare_with_baseline(
            real, groups, synthetic, frechet_distance_of_features, np.random.default_rng(1), repeats=20
        )

    assert compare(near).images == 60  # as many as half of the real ones, though there are more
    assert compare(near).real_mean == pytest.approx(compare(near).synthetic_mean, rel=0.1)
    assert compare(far).synthetic_mean > compare(far).real_mean + 5 * compare(far).real_spread
    assert compare(near[:25]).images == 25
    assert compare(near[:25]).real_mean > compare(near).real_mean  # fewer images, higher baseline


def test_a_measure_that_needs_more_images_than_a_half_has_gets_no_baseline():
    real = np.random.default_rng(0).normal(size=(12, 4))
    groups = [f"scan {index // 2}" for index in range(12)]

    def compare(fewest):
        return compare_with_baseline(
            real, groups, real, frechet_distance_of_features, np.random.default_rng(1), fewest=fewest
        )

    assert compare(6).images == 6
    assert compare(7) is None

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import calculate_frechet_distance

from lungforge.metrics.frechet import (
    GaussianSums,
    frechet_distance,
    frechet_distance_of_features,
    frechet_distance_without_bias,
    merge_all,
)


def features(seed, count, dimensions, *, shift=0.0):
    """Correlated features with a spectrum that falls off, as those of a network do."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / np.arange(1, dimensions + 1)
    return generator.normal(size=(count, dimensions)) @ mixing.T + shift


def by_pytorch_fid(first, second):
    return calculate_frechet_distance(
        first.mean(axis=0), np.cov(first, rowvar=False), second.mean(axis=0), np.cov(second, rowvar=False)
    )


@pytest.mark.parametrize(
    ("first_count", "second_count", "dimensions"),
    [(400, 300, 64), (500, 65, 64), (40, 60, 128), (200, 20, 128), (2, 2, 16)],
    ids=["full rank", "barely", "both without full rank", "unequal", "two images"],
)
def test_agrees_with_pytorch_fid(first_count, second_count, dimensions):
    first = features(0, first_count, dimensions)
    second = features(1, second_count, dimensions, shift=0.3) * 1.2
    expected = by_pytorch_fid(first, second)
    sums = frechet_distance(GaussianSums.of(first), GaussianSums.of(second))
    assert sums == pytest.approx(expected, rel=1e-5)
    assert frechet_distance_of_features(first, second) == pytest.approx(sums, rel=1e-10)


def test_known_distance_between_axis_aligned_gaussians():
    # Half axes 2 and 3 in one direction, 1 and 1 in the other, means 3 apart: 3^2 + (3 - 2)^2, the latter
    # times 2/3, for the covariance of such four points is 2/3 of the squared half axes.
    first = np.array([[-2.0, 0], [2, 0], [0, -1], [0, 1]])
    second = np.array([[-3.0, 3], [3, 3], [0, 2], [0, 4]])
    assert frechet_distance(GaussianSums.of(first), GaussianSums.of(second)) == pytest.approx(9 + 2 / 3)


def test_a_set_is_at_no_distance_from_itself():
    one = features(0, 30, 64)
    sums = GaussianSums.of(one)
    assert frechet_distance(sums, sums) == pytest.approx(0, abs=1e-9)
    assert frechet_distance_of_features(one, one[::-1]) == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), max_size=6, unique=True), offset=st.sampled_from([0.0, 1e6]))
def test_merged_sums_equal_those_of_the_whole(cuts, offset):
    whole = features(0, 60, 8) + offset
    merged = merge_all(GaussianSums.of(piece) for piece in np.split(whole, sorted(cuts)))
    assert merged.count == 60
    np.testing.assert_allclose(merged.mean, whole.mean(axis=0), rtol=1e-12)
    # Far from zero the sums of squares alone would keep no digit of these variances.
    np.testing.assert_allclose(merged.covariance(), np.cov(whole, rowvar=False), rtol=1e-6, atol=1e-9)


def test_more_images_of_one_distribution_come_nearer():
    distances = [
        frechet_distance_of_features(features(0, count, 64), features(1, count, 64))
        for count in (50, 200, 800)
    ]
    assert distances == sorted(distances, reverse=True)


def test_the_extrapolated_distance_is_that_of_the_distributions():
    """Two Gaussians at a known distance, from so few images that the plain one is half as large again."""
    generator = np.random.default_rng(0)
    plain, extrapolated = [], []
    for _ in range(30):
        first, second = generator.normal(size=(40, 8)), generator.normal(size=(40, 8))
        second[:, 0] += 1.0
        plain.append(frechet_distance_of_features(first, second))
        extrapolated.append(frechet_distance_without_bias(first, second, generator))
    assert np.mean(plain) > 1.4
    assert np.mean(extrapolated) == pytest.approx(1.0, abs=3 * np.std(extrapolated) / np.sqrt(30))


def test_the_extrapolation_needs_two_images_for_each_dimension():
    features, generator = np.random.default_rng(0).normal(size=(32, 16)), np.random.default_rng(1)
    assert frechet_distance_without_bias(features, features[:31], generator) is None
    assert frechet_distance_without_bias(features, features + 1, generator) is not None

import numpy as np
import pytest

from lungforge.metrics.partial_correlation import correlation_beyond, pearson


def test_pearson_is_that_of_numpy_and_zero_without_texture():
    one, other = np.random.default_rng(0).normal(size=(2, 50))
    assert pearson(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert pearson(3 * one + 7, other) == pytest.approx(pearson(one, other))
    assert pearson(one * 0.01, one) == 0.0
    assert pearson(np.ones(50), one) == 0.0


def test_partial_correlation_is_that_of_the_inverse_covariance():
    generator = np.random.default_rng(0)
    explained = generator.normal(size=(4, 500))
    shared = generator.normal(size=500)
    weights = generator.normal(size=(2, 4))
    some, other = (10 * (weight @ explained) + shared + generator.normal(size=500) for weight in weights)
    inverse = np.linalg.inv(np.cov(np.stack([some, other, *explained])))
    expected = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert correlation_beyond(some, other, explained) == pytest.approx(expected, abs=1e-9)
    # A row that says nothing, or the same again, changes nothing.
    more = np.concatenate([explained, np.zeros((1, 500)), explained[:1]])
    assert correlation_beyond(some, other, more) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_partial_correlation_is_that_of_least_squares_over_the_pixels(seed):
    generator = np.random.default_rng(seed)
    explained = generator.normal(size=(6, 300)) * 10.0 ** generator.integers(-2, 3, size=(6, 1))
    # Nearly the same twice, as the map of a slice and that of its copy.
    explained[1] = explained[0] * (1 + 1e-4) + 1e-3 * generator.normal(size=300)
    some, others = generator.normal(size=(2, 300)) + explained[2] + explained[3:].sum(axis=0)
    design = np.concatenate([np.ones((1, 300)), explained]).T
    rests = [values - design @ np.linalg.lstsq(design, values, rcond=1e-6)[0] for values in (some, others)]
    expected = np.corrcoef(*rests)[0, 1]
    assert correlation_beyond(some, others, explained) == pytest.approx(expected, abs=1e-7)


def test_what_is_all_explained_correlates_with_nothing():
    explained = np.random.default_rng(0).normal(size=(2, 200))
    assert correlation_beyond(10 * explained[0], explained.sum(axis=0), explained) == 0.0

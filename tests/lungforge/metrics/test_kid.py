import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.metrics.kid import kid, kid_over_subsets, kid_p_value
from lungforge.metrics.permutation import permute_scans


def written_out(x, y):
    """The unbiased estimate as in the paper, a pair at a time."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


@pytest.mark.parametrize("block_rows", [7, 1024])
def test_equals_the_written_out_double_sum(monkeypatch, block_rows):
    monkeypatch.setattr("lungforge.metrics.kid.BLOCK_ROWS", block_rows)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 12)).astype(np.float32)
    y = (generator.normal(size=(31, 12)) * 1.3 + 0.2).astype(np.float32)
    expected = written_out(x.astype(np.float64), y.astype(np.float64))
    assert kid(x, y) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    counts=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    dimensions=st.integers(1, 40),
    offset=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 2**32),
)
def test_equals_the_double_sum_whatever_the_sizes(counts, dimensions, offset, seed):
    generator = np.random.default_rng(seed)
    x, y = (
        (generator.normal(size=(count, dimensions)) + offset).astype(np.float32).astype(np.float64)
        for count in counts
    )
    # The three terms are of the size of the kernel's values, and nearly cancel.
    scale = max((float(a @ a) / dimensions + 1) ** 3 for a in (*x, *y))
    assert kid(x, y) == pytest.approx(written_out(x, y), rel=1e-9, abs=1e-12 * scale)
    assert kid(x, y) == pytest.approx(kid(y, x), rel=1e-9, abs=1e-12 * scale)


def test_known_distance_of_one_dimensional_features():
    # Kernel (xy + 1)^3: within {0, 1} 1, within {1, 2} 27; between them 1, 1, 8, 27.
    assert kid(np.array([[0.0], [1]]), np.array([[1.0], [2]])) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_is_without_bias_for_equal_distributions():
    generator = np.random.default_rng(1)
    values = [kid(generator.normal(size=(20, 6)), generator.normal(size=(20, 6))) for _ in range(300)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_over_subsets_gives_mean_and_spread_and_depends_on_the_seed_only():
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(60, 5)), generator.normal(size=(40, 5)) + 0.5
    first, again = (kid_over_subsets(x, y, np.random.default_rng(7), subsets=50) for _ in range(2))
    assert first == again
    assert (first.subsets, first.subset_size) == (50, 20)
    assert first.mean == pytest.approx(kid(x, y), abs=3 * first.spread / np.sqrt(50))
    assert first.spread > 0


@pytest.mark.parametrize("block_rows", [7, 1024])
@pytest.mark.parametrize("subsets", [2, 30])
def test_over_subsets_is_that_of_each_subset_by_itself(monkeypatch, block_rows, subsets):
    """Whether the kernel is computed once for all of them, or they are so few that it is not."""
    monkeypatch.setattr("lungforge.metrics.kid.BLOCK_ROWS", block_rows)
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(50, 6)).astype(np.float32), generator.normal(size=(33, 6)) + 0.3
    found = kid_over_subsets(x, y, np.random.default_rng(1), subsets=subsets, subset_size=12)
    draws, values = np.random.default_rng(1), []
    for _ in range(subsets):
        one, other = (np.sort(draws.choice(count, 12, replace=False)) for count in (50, 33))
        values.append(written_out(x[one].astype(np.float64), y[other]))
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9)
    assert found.spread == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def scans_of(count, per_scan):
    return [f"scan {index // per_scan}" for index in range(count)]


@pytest.mark.parametrize("block_rows", [7, 1024])
def test_p_value_equals_that_of_the_kid_of_every_permutation(monkeypatch, block_rows):
    monkeypatch.setattr("lungforge.metrics.kid.BLOCK_ROWS", block_rows)
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=(14, 5)), generator.normal(size=(9, 5)) + 0.4
    permutations = permute_scans(scans_of(14, 3), scans_of(9, 2), np.random.default_rng(0), 99)
    pooled, tested = np.concatenate([x, y]), permutations.taking_part
    assert 9 < tested.sum() < 23
    values = []
    for sides in permutations.first:
        first = sides[permutations.units]
        values.append(kid(pooled[first & tested], pooled[~first & tested]))
    expected = (1 + sum(value >= values[0] - 1e-12 for value in values[1:])) / 100
    assert 0.02 < expected < 0.98
    assert kid_p_value(x, y, permutations) == expected


def test_p_value_is_small_for_other_distributions_and_fair_for_equal_ones():
    generator = np.random.default_rng(5)
    scans = scans_of(60, 3)

    def test(shift):
        # Slices of one scan lie close together.
        x, y = (
            np.repeat(generator.normal(size=(20, 8)), 3, axis=0) + 0.2 * generator.normal(size=(60, 8))
            for _ in range(2)
        )
        return kid_p_value(x, y + shift, permute_scans(scans, scans, generator, 99))

    assert [test(2.0) for _ in range(5)] == [0.01] * 5
    equal = np.array([test(0.0) for _ in range(120)])
    assert (equal <= 0.05).mean() < 0.12
    assert 0.4 < equal.mean() < 0.6

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.metrics import neighbours
from lungforge.metrics.precision_recall import precision, recall


def written_out(reference, points):
    """As in the paper, a vector at a time."""

    def distance(a, b):
        return float(((a - b) ** 2).sum())

    radii = [
        sorted(distance(within, other) for number, other in enumerate(reference) if number != index)[2]
        for index, within in enumerate(reference)
    ]
    inside = [
        any(distance(point, within) <= radius for within, radius in zip(reference, radii, strict=True))
        for point in points
    ]
    return sum(inside) / len(inside)


def test_golden_case_on_a_line():
    # The third nearest of 0, 1, 2, 3 are 3, 2, 2, 3 away: the manifold of the real is [-3, 6].
    real = np.array([[0.0], [1], [2], [3]])
    # Those of 6, 7, 8, 20 are 14, 13, 12, 14 away: the manifold of the synthetic is [-8, 34].
    synthetic = np.array([[6.0], [7], [8], [20]])
    assert precision(real, synthetic) == 1 / 4  # 6 lies on the surface, which counts
    assert recall(real, synthetic) == 1.0
    assert precision(real, np.array([[-3.0], [-3.001], [6.001], [2]])) == 1 / 2


@settings(deadline=None)
@given(
    real=st.integers(4, 25),
    synthetic=st.integers(4, 25),
    entries=st.sampled_from([1, 60, 2**24]),
    seed=st.integers(0, 2**32),
)
def test_equals_brute_force_also_where_distances_tie(real, synthetic, entries, seed):
    # Few different integers: many vectors are equal, and many lie just on the surface of a ball.
    generator = np.random.default_rng(seed)
    first = generator.integers(-2, 3, size=(real, 3)).astype(np.float32)
    second = generator.integers(-1, 4, size=(synthetic, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK_ENTRIES", entries)
        assert precision(first, second) == written_out(first, second)
        assert recall(first, second) == written_out(second, first)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), offset=st.sampled_from([0.0, 300.0]))
def test_equals_brute_force_of_features_far_from_zero(seed, offset):
    generator = np.random.default_rng(seed)
    real = (generator.normal(size=(30, 4)) + offset).astype(np.float32)
    synthetic = (1.5 * generator.normal(size=(20, 4)) + offset).astype(np.float32)
    wide = [values.astype(np.float64) for values in (real, synthetic)]
    assert precision(real, synthetic) == written_out(wide[0], wide[1])
    assert recall(real, synthetic) == written_out(wide[1], wide[0])


def test_copies_of_the_real_images_are_precise_and_what_repeats_itself_covers_little():
    generator = np.random.default_rng(0)
    real = generator.normal(size=(200, 8)).astype(np.float32)
    assert (precision(real, real), recall(real, real)) == (1.0, 1.0)
    collapsed = np.repeat(real[:5], 40, axis=0)
    assert precision(real, collapsed) == 1.0
    assert recall(real, collapsed) == 5 / 200  # balls of no size around five vectors
    assert precision(real, real + 100) == recall(real, real + 100) == 0.0

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.metrics import neighbours
from lungforge.metrics.neighbours import nearest_neighbours, rounding_of_squares, squared_distances


def written_out(points, others):
    return ((points[:, None].astype(np.float64) - others[None].astype(np.float64)) ** 2).sum(axis=2)


@settings(deadline=None)
@given(
    count=st.integers(1, 30),
    others=st.integers(1, 30),
    entries=st.sampled_from([1, 50, 2**24]),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 2**32),
)
def test_blocks_hold_every_distance_once_and_to_its_bound_of_rounding(count, others, entries, offset, seed):
    generator = np.random.default_rng(seed)
    x = (generator.normal(size=(count, 7)) + offset).astype(np.float32)
    y = (generator.normal(size=(others, 7)) + offset).astype(np.float32)
    found = np.full((count, others), -1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK_ENTRIES", entries)
        for block, squares in squared_distances(x, y):
            assert squares.size <= max(entries, others)
            assert (found[block] == -1).all()
            found[block] = squares
    assert np.abs(found - written_out(x, y)).max() <= rounding_of_squares(x, y)


def test_the_nearest_of_each_and_exactly_nothing_to_a_copy():
    generator = np.random.default_rng(0)
    # Far from zero: the square of a distance there is a small difference of large values.
    others = (generator.normal(size=(40, 16)) + 1e4).astype(np.float32)
    points = np.concatenate([others[[7, 30]], (generator.normal(size=(20, 16)) + 1e4).astype(np.float32)])
    indices, distances = nearest_neighbours(points, others)
    expected = written_out(points, others)
    np.testing.assert_array_equal(indices, expected.argmin(axis=1))
    np.testing.assert_allclose(distances, np.sqrt(expected.min(axis=1)), rtol=1e-12)
    assert indices[:2].tolist() == [7, 30]
    assert distances[:2].tolist() == [0.0, 0.0]

"""What the benchmark plants is what it says."""

import numpy as np
import pytest

from benchmarks.near_duplicates import KINDS, evenly, moved

HU = np.random.default_rng(0).uniform(-1000, 400, size=(40, 40)).astype(np.float32)
INNER = np.s_[5:-5, 5:-5]


def test_a_shift_of_whole_pixels_moves_them():
    np.testing.assert_allclose(
        moved(HU, down=-3, right=2)[INNER], np.roll(HU, (-3, 2), (0, 1))[INNER], atol=1e-2
    )


def test_slices_that_are_looked_for_are_spread_evenly():
    assert evenly(list(range(10)), 4) == [0, 2, 5, 7]
    assert evenly(list(range(3)), 4) == evenly(list(range(3)), None) == [0, 1, 2]


def test_a_quarter_turn_is_counter_clockwise():
    np.testing.assert_allclose(moved(HU, degrees=90), np.rot90(HU), atol=1e-2)


def test_zoom_moves_away_from_the_centre():
    image = np.zeros((41, 41), np.float32)
    image[20, 30] = 1
    assert np.unravel_index(moved(image, zoom=1.5).argmax(), image.shape) == (20, 35)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_slice_of_the_same_size_and_leaves_the_original_alone(kind):
    before = HU.copy()
    changed = KINDS[kind](HU, np.random.default_rng(0))
    assert changed.shape == HU.shape
    np.testing.assert_array_equal(HU, before)
    assert (kind == "as it is") == np.array_equal(changed, HU)

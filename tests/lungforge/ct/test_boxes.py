import numpy as np
import pytest
from scipy import ndimage

from lungforge.ct.boxes import bounding_box


@pytest.mark.parametrize("seed", range(20))
def test_a_box_is_that_of_scipy(seed):
    generator = np.random.default_rng(seed)
    mask = np.zeros((9, 7), bool)
    mask[generator.integers(9, size=3), generator.integers(7, size=3)] = True
    (box,) = ndimage.find_objects(mask.astype(int))
    assert bounding_box(mask) == box


def test_margins_stop_where_the_image_begins():
    mask = np.zeros((9, 7), bool)
    mask[1, 5] = True
    assert bounding_box(mask, (2, 1)) == (slice(0, 4), slice(4, 7))
    assert mask[bounding_box(mask, (2, 3))].shape == (4, 5)

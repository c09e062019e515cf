import numpy as np
from scipy import ndimage

from lungforge.metrics.interpolation import interpolated


def test_interpolation_is_that_of_scipy_inside_on_the_edge_and_beyond():
    images = np.random.default_rng(0).normal(size=(9, 7, 3)).astype(np.float32)
    places = np.random.default_rng(1).uniform(-2, 10, size=(2, 400))
    places = np.concatenate([places, [[0, 8, 8, 0, 8.001, -0.001, 3], [0, 6, 0, 6, 3, 3, 6]]], axis=1)
    found = interpolated(images, places)
    for layer in range(3):
        expected = ndimage.map_coordinates(images[..., layer].astype(np.float64), places, order=1)
        np.testing.assert_allclose(found[:, layer], expected, atol=1e-5)
    assert (found[:-3] != 0).any()
    assert (found[-3:-1] == 0).all()

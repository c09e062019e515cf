import numpy as np
import pytest
from scipy import ndimage

from lungforge.ct import classes
from lungforge.metrics.textures import (
    comparable_region,
    map_textures,
    reduce,
    reduction,
    resized,
    resized_all,
    smoothed,
    texture,
)


@pytest.mark.parametrize(
    ("side", "factor"), [(32, 1), (64, 1), (128, 1), (129, 2), (256, 2), (512, 4), (500, 4)]
)
def test_large_images_are_reduced(side, factor):
    assert reduction((side, side)) == factor


def test_reducing_is_the_mean_of_squares():
    image = np.arange(5 * 7).reshape(5, 7)
    expected = [
        [image[0:2, 2 * c : 2 * c + 2].mean() for c in range(3)],
        [image[2:4, 2 * c : 2 * c + 2].mean() for c in range(3)],
    ]
    np.testing.assert_allclose(reduce(image, 2), expected)
    np.testing.assert_allclose(reduce(np.stack([image, image + 1]), 2)[1], np.add(expected, 1))


def test_texture_is_the_difference_of_two_gaussians_within_limits():
    grey = np.random.default_rng(0).integers(0, 256, (2, 40, 40)).astype(np.uint8)
    for one, found in zip(grey, texture(grey), strict=True):
        fine, coarse = (ndimage.gaussian_filter(one.astype(float), s, truncate=3) for s in (0.8, 1.6))
        np.testing.assert_allclose(found, np.clip(fine - coarse, -40, 40), atol=1e-3)


def test_a_grey_shift_leaves_the_texture_as_it_is():
    grey = np.random.default_rng(0).integers(50, 150, (40, 40)).astype(np.uint8)
    np.testing.assert_allclose(texture(grey + 50), texture(grey), atol=1e-3)


def test_what_is_compared_lies_in_the_body_away_from_borders():
    label = np.zeros((60, 60), dtype=np.uint8)
    label[5:55, 5:55] = classes.BODY
    label[20:40, 20:40] = classes.LEFT_LUNG
    region, away = comparable_region(label, 1)
    assert away == region.sum()
    for row in range(60):
        for column in range(60):
            around = label[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
            assert region[row, column] == (label[row, column] > 0 and len(np.unique(around)) == 1)


def test_without_enough_of_it_more_is_compared():
    region, away = comparable_region(np.zeros((32, 32), np.uint8), 1)
    assert (region.sum(), away) == (26 * 26, 0)
    region, away = comparable_region(np.zeros((8, 8), np.uint8), 1)
    assert (region.all(), away) == (True, 0)


def test_resizing_to_the_same_size_changes_nothing():
    image = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert resized(image, 8, 8) is image
    np.testing.assert_allclose(resized(image, 4, 4), reduce(image, 2), atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("blur", [0, 1.0])
def test_the_texture_of_any_painted_image_is_a_sum_of_those_of_its_map(factor, blur):
    label = np.zeros((48, 48), np.uint8)
    label[8:40, 6:42] = classes.BODY
    label[14:34, 10:20] = classes.RIGHT_LUNG
    label[14:34, 28:38] = classes.LEFT_LUNG
    # Less than the limit between any two neighbours.
    painted = reduce(np.choose(label, [90, 110, 75, 85, 0, 0]), factor)
    if blur:
        painted = ndimage.gaussian_filter(painted, blur, truncate=3.0)
    of_map = map_textures(label, factor)
    assert of_map.shape == (2 * 3, 48 // factor, 48 // factor)
    design = of_map.reshape(len(of_map), -1).T.astype(np.float64)
    wanted = texture(painted).ravel()
    fitted = design @ np.linalg.lstsq(design, wanted, rcond=1e-6)[0]
    np.testing.assert_allclose(fitted, wanted, atol=1e-3)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_textures_of_a_map_are_those_of_painted_images_written_out(factor):
    label = np.zeros((50, 43), np.uint8)
    label[3:, 2:40] = classes.BODY
    label[14:34, 8:18] = classes.RIGHT_LUNG
    label[0:2, 41:43] = classes.NODULE
    expected = []
    for blur in (0, 1.0):
        for one in (classes.BODY, classes.RIGHT_LUNG, classes.NODULE):
            painted = reduce(30.0 * (label == one), factor).astype(np.float64)
            if blur:
                painted = ndimage.gaussian_filter(painted, blur, truncate=3.0)
            fine, coarse = (ndimage.gaussian_filter(painted, s, truncate=3.0) for s in (0.8, 1.6))
            expected.append(np.clip(fine - coarse, -40, 40))
    # A class of which the reduction leaves nothing has no texture.
    expected = [layer for layer in expected if np.abs(layer).max() > 1e-9]
    np.testing.assert_allclose(map_textures(label, factor), expected, atol=1e-4)


def test_a_map_of_background_makes_no_texture():
    assert map_textures(np.zeros((10, 12), np.uint8), 2).shape == (0, 5, 6)
    assert resized_all(np.zeros((0, 5, 6), np.float32), 3, 3).shape == (0, 3, 3)


@pytest.mark.parametrize("shape", [(40, 33), (5, 6)])
def test_smoothing_is_that_of_scipy(shape):
    layers = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    expected = ndimage.gaussian_filter(layers.astype(np.float64), 1.0, axes=(1, 2))
    np.testing.assert_allclose(smoothed(layers, 1.0), expected, atol=1e-5)

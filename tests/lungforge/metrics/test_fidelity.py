import itertools

import numpy as np
import pytest
from scipy import ndimage

from lungforge.ct import classes
from lungforge.metrics.fidelity import (
    ClassHistogram,
    class_medians,
    nodule_contrasts,
    nodule_surroundings,
)


def test_quantiles_equal_those_of_the_pixels_and_add_up_over_parts():
    generator = np.random.default_rng(0)
    hu = generator.integers(-1500, 900, size=(6, 20, 20)).astype(np.int16)
    labels = generator.integers(0, 5, size=hu.shape).astype(np.uint8)
    whole = ClassHistogram.of(hu, labels)
    pieces = [ClassHistogram.of(hu[piece], labels[piece]) for piece in (slice(0, 2), slice(2, 6))]
    parts = sum(pieces, ClassHistogram.empty())
    np.testing.assert_array_equal(whole.counts, parts.counts)
    for label in range(5):
        values = np.clip(hu[labels == label], -1000, 400)
        assert whole.pixels(label) == len(values)
        for fraction in (0.25, 0.5, 0.75):
            expected = np.quantile(values, fraction, method="inverted_cdf")
            assert whole.quantile(label, fraction) == expected
    assert whole.quantile(classes.NODULE, 0.5) is None


def lung_with_nodules(*places):
    """Lung at -850 HU with nodules of 5 by 5 pixels, each of its HU."""
    label = np.full((40, 40), classes.LEFT_LUNG, dtype=np.uint8)
    hu = np.full((40, 40), -850, dtype=np.int16)
    for row, column, value in places:
        label[row - 2 : row + 3, column - 2 : column + 3] = classes.NODULE
        hu[row - 2 : row + 3, column - 2 : column + 3] = value
    return hu, label


def test_contrast_of_each_nodule_to_the_lung_around_it():
    hu, label = lung_with_nodules((10, 10, 50), (30, 10, -200))
    assert nodule_contrasts(hu, label, (1.0, 1.0)) == pytest.approx([900, 650])


def test_contrast_is_to_lung_and_to_nothing_else():
    hu, label = lung_with_nodules((20, 20, 0))
    label[:, :17], hu[:, :17] = classes.BODY, 40
    label[:17, 17:], hu[:17, 17:] = classes.BACKGROUND, -1000
    label[23:, 17:20], hu[23:, 17:20] = classes.TRACHEA, -1000
    assert nodule_contrasts(hu, label, (1.0, 1.0)) == pytest.approx([850])


def test_the_lung_around_lies_2_to_10_mm_away():
    hu, label = lung_with_nodules((20, 20, 0))
    rows, columns = np.mgrid[:40, :40]
    # Written out: the distance of each pixel to the nearest pixel of the square, rows 1.5 and columns 0.8 mm.
    down = np.maximum(np.abs(rows - 20) - 2, 0) * 1.5
    right = np.maximum(np.abs(columns - 20) - 2, 0) * 0.8
    distance = np.hypot(down, right)
    hu = np.where(label == classes.NODULE, 0, -400 - (10 * distance).astype(np.int16)).astype(np.int16)
    ring = (distance >= 2) & (distance <= 10)
    assert nodule_contrasts(hu, label, (1.5, 0.8)) == pytest.approx([-hu[ring].mean(dtype=float)])


def test_contrast_leaves_out_the_blurred_rim_and_other_nodules():
    label = np.full((30, 30), classes.LEFT_LUNG, dtype=np.uint8)
    hu = np.full((30, 30), -800, dtype=np.int16)
    label[14:17, 10:13] = label[14:17, 15:18] = classes.NODULE
    hu[13:18, 9:19] = 0  # both nodules, and a rim of one pixel
    assert nodule_contrasts(hu, label, (1.0, 1.0)) == pytest.approx([800, 800])


def test_no_nodule_and_a_nodule_without_lung_around_it_have_no_contrast():
    nothing, one = np.zeros((8, 8), np.uint8), (1.0, 1.0)
    assert nodule_contrasts(np.zeros((8, 8), np.int16), nothing, one) == []
    assert nodule_contrasts(np.zeros((8, 8), np.int16), np.full_like(nothing, classes.NODULE), one) == []
    hu, label = lung_with_nodules((20, 20, 0))
    label[label == classes.LEFT_LUNG] = classes.BODY
    assert nodule_contrasts(hu, label, one) == []


def test_the_median_of_each_class_in_each_slice():
    generator = np.random.default_rng(1)
    hu = generator.integers(-1500, 900, size=(3, 9, 9)).astype(np.int16)
    labels = generator.integers(0, 5, size=hu.shape).astype(np.uint8)
    labels[1][labels[1] == classes.TRACHEA] = classes.BODY
    medians = class_medians(hu, labels)
    for row in range(3):
        for label in range(classes.COUNT):
            pixels = np.clip(hu[row][labels[row] == label], -1000, 400)
            if len(pixels):
                assert medians[row, label] == np.median(pixels)
            else:
                assert np.isnan(medians[row, label])
    assert np.isnan(medians).sum() == 4  # no nodule in three slices, no trachea in one


def written_out_surroundings(label, spacing_mm):
    """Of each nodule: its pixels, and those of lung within the ring, looked for in the whole slice."""
    components, count = ndimage.label(label == classes.NODULE, structure=np.ones((3, 3)))
    lung = (label == classes.LEFT_LUNG) | (label == classes.RIGHT_LUNG)
    to_any = ndimage.distance_transform_edt(label != classes.NODULE, sampling=spacing_mm)
    found = []
    for component in range(1, count + 1):
        inside = components == component
        to_this = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
        around = lung & (to_any >= 2.0) & (to_this <= 10.0)
        found += [(inside, around)] if around.any() else []
    return found


@pytest.mark.parametrize("seed", range(6))
def test_surroundings_are_those_of_a_search_in_the_whole_slice(seed):
    generator = np.random.default_rng(seed)
    label = generator.choice([0, 1, 2, 3], size=(60, 50), p=[0.1, 0.2, 0.4, 0.3]).astype(np.uint8)
    for _ in range(seed):
        row, column, side = generator.integers(0, 60), generator.integers(0, 50), generator.integers(1, 6)
        label[row : row + side, column : column + side] = classes.NODULE
    spacing = generator.uniform(0.6, 2.5, size=2).tolist()
    found = nodule_surroundings(label, spacing)
    expected = written_out_surroundings(label, spacing)
    assert len(found) == len(expected)
    for one, (inside, around) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.inside, inside)
        np.testing.assert_array_equal(one.lung, around)


@pytest.mark.parametrize("seed", range(4))
def test_medians_are_those_of_numpy(seed):
    generator = np.random.default_rng(seed)
    hu = generator.integers(-1100, 500, size=(5, 9, 11)).astype(np.int16)
    labels = generator.integers(0, 2 + seed, size=hu.shape).astype(np.uint8)
    expected = np.full((5, classes.COUNT), np.nan, np.float32)
    for row, each in itertools.product(range(5), range(classes.COUNT)):
        values = np.clip(hu[row], -1000, 400)[labels[row] == each]
        if len(values):
            expected[row, each] = np.median(values)
    np.testing.assert_array_equal(class_medians(hu, labels), expected)

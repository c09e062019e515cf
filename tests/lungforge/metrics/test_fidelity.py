import numpy as np
import pytest

from lungforge.ct import classes
from lungforge.metrics.fidelity import ClassHistogram, nodule_contrasts


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


def test_contrast_of_each_nodule_to_the_tissue_around_it():
    label = np.full((40, 40), classes.LEFT_LUNG, dtype=np.uint8)
    hu = np.full((40, 40), -850, dtype=np.int16)
    for row, value in ((10, 50), (30, -200)):
        label[row - 2 : row + 3, 8:13] = classes.NODULE
        hu[row - 2 : row + 3, 8:13] = value
    assert nodule_contrasts(hu, label) == pytest.approx([900, 650])


def test_contrast_leaves_out_the_blurred_rim_other_nodules_and_the_background():
    label = np.full((30, 30), classes.LEFT_LUNG, dtype=np.uint8)
    hu = np.full((30, 30), -800, dtype=np.int16)
    label[:, :8] = classes.BACKGROUND
    hu[:, :8] = -1000
    label[14:17, 10:13] = label[14:17, 15:18] = classes.NODULE
    hu[13:18, 9:19] = 0  # both nodules, and a rim of one pixel
    assert nodule_contrasts(hu, label)[0] == pytest.approx(800)


def test_no_nodule_and_a_nodule_without_surroundings_have_no_contrast():
    assert nodule_contrasts(np.zeros((8, 8), np.int16), np.zeros((8, 8), np.uint8)) == []
    assert nodule_contrasts(np.zeros((8, 8), np.int16), np.full((8, 8), classes.NODULE, np.uint8)) == []

"""What is planted is what its name says, and nothing else."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.planted_faults import COPIES, FAULTS
from lungforge.ct import classes
from lungforge.datasets.slices import SliceRow

GENERATOR = np.random.default_rng(0)


def thorax() -> SliceRow:
    """Lungs at -850 HU with a vessel of 3 px and a nodule of 5 px, in a body of 40 HU; with texture."""
    label = np.zeros((64, 64), np.uint8)
    label[6:58, 4:60] = classes.BODY
    label[14:50, 10:30], label[14:50, 34:54] = classes.RIGHT_LUNG, classes.LEFT_LUNG
    label[30:35, 40:45] = classes.NODULE
    hu = np.array([-1000, 40, -850, -850, -1000, 30])[label]
    hu[14:50, 16:19] = 20
    hu += np.where(label > 0, np.random.default_rng(1).integers(-9, 10, hu.shape), 0)
    return SliceRow("1.2.3", 0, 7, (1.4, 1.4), hu.astype(np.int16), label, ())


ROW = thorax()
BODY = ROW.label != classes.BACKGROUND
LUNGS = np.isin(ROW.label, (classes.LEFT_LUNG, classes.RIGHT_LUNG))


def planted(name: str) -> SliceRow:
    row = (FAULTS | COPIES)[name](ROW, np.random.default_rng(5))
    np.testing.assert_array_equal(row.label, ROW.label)
    assert row.image.dtype == np.int16
    assert row.image.min() >= -1000
    assert row.image.max() <= 400
    return row


@pytest.mark.parametrize("by", [25, 50, 200])
def test_brighter_inside_the_body_only(by: int) -> None:
    np.testing.assert_array_equal(planted(f"+{by} HU").image, ROW.image + by * BODY)


def test_less_contrast_about_the_mean_of_the_body() -> None:
    image, middle = planted("contrast 0.8").image, ROW.image[BODY].mean()
    np.testing.assert_allclose(image[BODY] - middle, 0.8 * (ROW.image[BODY] - middle), atol=0.5)
    np.testing.assert_array_equal(image[~BODY], ROW.image[~BODY])


def test_blur_is_the_mean_of_nine_pixels() -> None:
    assert planted("blur 3x3").image[20, 20] == round(ROW.image[19:22, 19:22].mean())


@pytest.mark.parametrize("deviation", [20, 60])
def test_noise_has_its_standard_deviation_and_follows_from_its_generator(deviation: int) -> None:
    difference = planted(f"noise {deviation} HU").image.astype(float) - ROW.image
    assert difference[BODY].std() == pytest.approx(deviation, rel=0.05)
    np.testing.assert_array_equal(
        planted(f"noise {deviation} HU").image, planted(f"noise {deviation} HU").image
    )


def test_vessels_are_gone_and_the_rest_of_the_body_is_as_it_was() -> None:
    image = planted("vessels removed").image
    assert ROW.image[20:40, 16:19].min() > 0
    assert image[14:50, 16:19].max() < -800
    assert image[LUNGS].max() < -800
    np.testing.assert_array_equal(image[~LUNGS], ROW.image[~LUNGS])


def test_nodules_are_replaced_by_lung_while_the_map_has_them() -> None:
    image = planted("nodules removed").image
    nodule = ROW.label == classes.NODULE
    assert image[nodule].max() < -800
    assert np.isin(image[nodule], ROW.image[LUNGS]).all()
    near = ndimage.distance_transform_edt(~nodule, sampling=(1.4, 1.4)) < 2
    np.testing.assert_array_equal(image[~near], ROW.image[~near])


def test_spacing_is_a_quarter_larger_and_the_image_the_same() -> None:
    row = planted("wrong spacing")
    assert row.spacing_mm == (1.75, 1.75)
    np.testing.assert_array_equal(row.image, ROW.image)


def test_a_slice_without_body_or_nodule_can_be_planted_in() -> None:
    empty = SliceRow("1", 0, 0, (1.0, 1.0), np.full((8, 8), -1000, np.int16), np.zeros((8, 8), np.uint8), ())
    for plant in (FAULTS | COPIES).values():
        assert plant(empty, GENERATOR).image.shape == (8, 8)


def test_copies_are_the_slice_moved_or_turned() -> None:
    np.testing.assert_array_equal(planted("mirrored").image, ROW.image[:, ::-1])
    np.testing.assert_array_equal(planted("shifted by 1 px").image[1:, 1:], ROW.image[:-1, :-1])
    np.testing.assert_array_equal(planted("shifted by 3 px").image[3:, 3:], ROW.image[:-3, :-3])
    for name in ("rotated by 2 degrees", "enlarged by 3 %"):
        image = planted(name).image.astype(float)
        assert 0.85 < np.corrcoef(image.ravel(), ROW.image.ravel())[0, 1] < 0.999
        assert image[32, 32] == pytest.approx(ROW.image[32, 32], abs=20)


def test_enlarging_moves_the_border_outwards_by_three_percent() -> None:
    label = np.zeros((201, 201), np.uint8)
    image = np.full(label.shape, -1000, np.int16)
    image[50:151, 50:151] = 0
    row = SliceRow("1", 0, 0, (1.0, 1.0), image, label, ())
    enlarged = COPIES["enlarged by 3 %"](row, GENERATOR).image
    assert np.count_nonzero(enlarged[100] > -500) == pytest.approx(1.03 * 101, abs=1)

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lungforge.ct.classes import BACKGROUND, BODY, LEFT_LUNG, NODULE
from lungforge.ct.nodules import SliceNodule
from lungforge.ct.resize import PixelMap, resize_anatomy, resize_image, resize_nodule, resize_slice
from lungforge.errors import InputError


def fitted(height: int, width: int, size: int) -> PixelMap:
    return PixelMap.fit((height, width), (0.7, 0.7), size=size)


def disc(height: int, width: int, x: float, y: float, radius: float) -> SliceNodule:
    rows, columns = np.mgrid[:height, :width]
    mask = np.hypot(columns - x, rows - y) <= radius
    mask[round(y), round(x)] = True
    return SliceNodule(x, y, 2 * radius, 1.4 * radius, mask)


sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, size=sizes, hu=st.integers(-3024, 3071))
def test_a_constant_image_stays_constant(height: int, width: int, size: int, hu: int) -> None:
    resized = resize_image(np.full((height, width), hu, np.int16), fitted(height, width, size))
    assert resized.dtype == np.int16
    np.testing.assert_array_equal(resized, np.full((size, size), hu))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(8, 70), width=st.integers(8, 70), size=st.integers(1, 8), seed=st.integers(0, 999))
def test_shrinking_keeps_the_mean(height: int, width: int, size: int, seed: int) -> None:
    hu = np.random.default_rng(seed).integers(-1000, 400, (height, width)).astype(np.int16)
    # Rounding to whole HU is all that may differ.
    assert abs(resize_image(hu, fitted(height, width, size)).mean() - hu.mean()) <= 0.5


def test_shrinking_by_two_is_the_mean_of_four_pixels() -> None:
    hu = np.array([[-1000, -900, 0, 1], [-800, -700, 2, 3]], np.int16)
    resized = resize_image(hu, PixelMap.fit((2, 4), (1, 1), spacing_mm=2))
    assert resized.tolist() == [[-850, 2]]  # 1.5 rounds to even


def test_shrinking_by_one_and_a_half_weighs_pixels_by_their_area() -> None:
    hu = np.array([[0, 300, 600]], np.int16)
    resized = resize_image(hu, PixelMap((1, 3), (1, 2), (1.0, 2 / 3), (0.0, 0.0), (1.0, 1.5)))
    assert resized.tolist() == [[100, 500]]


def test_enlarging_is_bilinear_and_steps_from_centre_to_centre() -> None:
    hu = np.array([[0, 400]], np.int16)
    resized = resize_image(hu, PixelMap((1, 2), (1, 4), (1.0, 2.0), (0.0, 0.0), (1.0, 0.5)))
    assert resized.tolist() == [[0, 100, 300, 400]]


def test_the_native_size_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 400, (40, 40)).astype(np.int16)
    anatomy = rng.integers(0, 5, (40, 40)).astype(np.uint8)
    nodule = disc(40, 40, 20.3, 11.8, 3)
    for pixel_map in (
        fitted(40, 40, 40),
        PixelMap.fit((40, 40), (0.7, 0.7)),
        PixelMap.fit((40, 40), (0.7, 0.7), size=40, spacing_mm=0.7),
    ):
        image, label, (kept,) = resize_slice(hu, anatomy, [nodule], pixel_map)
        np.testing.assert_array_equal(image, hu)
        np.testing.assert_array_equal(label, np.where(nodule.mask, NODULE, anatomy))
        np.testing.assert_array_equal(kept.mask, nodule.mask)
        assert kept.row() == pytest.approx(nodule.row())


def test_a_given_spacing_and_size_crop_and_pad_around_the_middle() -> None:
    hu = np.arange(16, dtype=np.int16).reshape(4, 4)
    anatomy = np.full((4, 4), BODY, np.uint8)
    cropped = PixelMap.fit((4, 4), (1, 1), size=2, spacing_mm=1)
    assert resize_image(hu, cropped).tolist() == [[5, 6], [9, 10]]
    assert cropped.point(1, 2) == (0, 1)
    padded = PixelMap.fit((4, 4), (1, 1), size=6, spacing_mm=1)
    image = resize_image(hu, padded)
    np.testing.assert_array_equal(image[1:5, 1:5], hu)
    assert (image[[0, 5]] == -1000).all()
    assert (image[:, [0, 5]] == -1000).all()
    label = resize_anatomy(anatomy, padded)
    assert (label == BODY).sum() == 16
    assert label[0, 0] == BACKGROUND
    assert padded.point(0, 0) == (1, 1)
    coarse = PixelMap.fit((4, 4), (1, 1), size=3, spacing_mm=2)
    assert coarse.spacing_mm == (2, 2)
    # The outer pixels are covered by half: half air.
    np.testing.assert_array_equal(
        resize_image(np.full((4, 4), 1000, np.int16), coarse),
        [[-500, 0, -500], [0, 1000, 0], [-500, 0, -500]],
    )


def test_oblong_pixels_are_measured_by_their_geometric_mean() -> None:
    pixel_map = PixelMap.fit((512, 256), (0.5, 1.0), size=128)
    assert pixel_map.spacing_mm == (2.0, 2.0)
    assert pixel_map.length(8) == pytest.approx(8 * math.sqrt(0.25 * 0.5))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"spacing_mm": 0.0}, {"spacing_mm": math.nan}])
def test_a_size_or_spacing_that_is_not_positive_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        PixelMap.fit((4, 4), (1, 1), **wrong)


def test_the_class_with_the_largest_share_wins_and_ties_go_to_the_lower() -> None:
    anatomy = np.array([[1, 1, 2, 3, 0, 4], [1, 2, 2, 3, 4, 0]], np.uint8)
    label = resize_anatomy(anatomy, PixelMap.fit((2, 6), (1, 1), spacing_mm=2))
    assert label.tolist() == [[1, 2, 0]]


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, size=sizes, seed=st.integers(0, 999))
def test_classes_are_never_invented(height: int, width: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    anatomy = rng.choice(rng.integers(0, 6, 3), (height, width)).astype(np.uint8)
    assert set(np.unique(resize_anatomy(anatomy, fitted(height, width, size)))) <= set(np.unique(anatomy))


@settings(max_examples=100, deadline=None)
@given(
    size=st.sampled_from([32, 48, 64, 100, 256, 300]),
    x=st.floats(0, 511),
    y=st.floats(0, 511),
    radius=st.floats(0.5, 40),
)
def test_every_nodule_survives_with_its_area_its_place_and_in_one_piece(
    size: int, x: float, y: float, radius: float
) -> None:
    nodule = disc(512, 512, x, y, radius)
    resized = resize_nodule(nodule, fitted(512, 512, size))
    assert resized is not None
    scale = size / 512
    area = int(nodule.mask.sum()) * scale**2
    assert abs(int(resized.mask.sum()) - max(area, 1)) <= 0.5 + 1e-6
    assert ndimage.label(resized.mask, np.ones((3, 3)))[1] == 1
    assert resized.x == pytest.approx((x + 0.5) * scale - 0.5)
    assert resized.diameter_px == pytest.approx(2 * radius * scale)
    assert resized.diameter_mm == nodule.diameter_mm
    # The middle of the mask moves as points do, to within the size of a pixel.
    row, column = ndimage.center_of_mass(nodule.mask)
    expected = fitted(512, 512, size).point(column, row)
    new_row, new_column = ndimage.center_of_mass(resized.mask)
    assert math.hypot(new_column - expected[0], new_row - expected[1]) < 0.75


def test_two_nodules_in_one_large_pixel_are_both_there() -> None:
    nodules = [disc(512, 512, 100, 100, 2), disc(512, 512, 106, 100, 2)]
    anatomy = np.full((512, 512), LEFT_LUNG, np.uint8)
    hu = np.full((512, 512), -850, np.int16)
    _, label, kept = resize_slice(hu, anatomy, nodules, fitted(512, 512, 32))
    assert [nodule.mask.sum() for nodule in kept] == [1, 1]
    assert (label == NODULE).sum() == 1
    _, label, kept = resize_slice(hu, anatomy, nodules, fitted(512, 512, 256))
    assert not (kept[0].mask & kept[1].mask).any()
    assert ndimage.label(label == NODULE)[1] == 2


def test_a_nodule_of_two_pieces_keeps_the_area_of_both() -> None:
    mask = np.zeros((64, 64), bool)
    mask[8:16, 8:16] = mask[8:16, 40:48] = True
    resized = resize_nodule(SliceNodule(28, 12, 40, 30, mask), fitted(64, 64, 16))
    assert resized is not None
    assert resized.mask.sum() == 8
    assert resized.mask[2:4, 2:4].all()


def test_nodules_that_are_cropped_away_leave_the_list_and_cut_ones_stay() -> None:
    gone, cut, whole = disc(64, 64, 5, 5, 3), disc(64, 64, 15, 32, 4), disc(64, 64, 32, 32, 4)
    pixel_map = PixelMap.fit((64, 64), (1, 1), size=32, spacing_mm=1)
    image, label, kept = resize_slice(
        np.zeros((64, 64), np.int16), np.full((64, 64), BODY, np.uint8), [gone, cut, whole], pixel_map
    )
    assert [(nodule.x, nodule.y) for nodule in kept] == [(-1, 16), (16, 16)]
    assert kept[0].mask.sum() == cut.mask[16:48, 16:48].sum() > 0
    np.testing.assert_array_equal(label == NODULE, kept[0].mask | kept[1].mask)
    assert image.shape == (32, 32)


def test_a_slice_is_shrunk_within_ten_milliseconds() -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 400, (512, 512)).astype(np.int16)
    anatomy = np.repeat(np.repeat(rng.integers(0, 5, (64, 64)), 8, 0), 8, 1).astype(np.uint8)
    nodules = [disc(512, 512, 200, 150, 10), disc(512, 512, 300, 250, 5)]
    pixel_map = fitted(512, 512, 256)
    durations = []
    for _ in range(15):
        before = time.process_time()
        resize_slice(hu, anatomy, nodules, pixel_map)
        durations.append(time.process_time() - before)
    assert min(durations) < 0.02, "about 6 ms; twice the aim, for slower machines"

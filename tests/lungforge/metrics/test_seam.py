import math
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from lungforge.metrics.seam import seam_ratio

INT16 = st.integers(-32768, 32767)


def disc(size: int, radius: float, centre: tuple[float, float] | None = None) -> np.ndarray:
    row, column = centre or ((size - 1) / 2, (size - 1) / 2)
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def noisy(size: int, seed: int, grain: float, spread_hu: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), grain)
    return np.rint(noise * (spread_hu / noise.std())).astype(np.int16)


def test_the_ratio_of_a_line_that_can_be_reckoned_by_hand():
    # Steps 1, 20, 3 over the left border and 5, 40, 7 over the right; 9 lies between two insides.
    line = np.cumsum([0, 1, 20, 3, 9, 5, 40, 7])
    mask = np.array([0, 0, 1, 1, 1, 1, 0, 0], dtype=bool)
    assert seam_ratio(line[None], mask[None]) == pytest.approx((20 + 40) / ((1 + 3) / 2 + (5 + 7) / 2))
    assert seam_ratio(line[:, None], mask[:, None]) == seam_ratio(line[None], mask[None])


def test_rows_and_columns_count_alike():
    image = np.add.outer([0, 1, 11, 12], [0, 2, 3, 5])
    corner = np.zeros((4, 4), dtype=bool)
    corner[2:, 2:] = True
    # Two lines cross the border in each direction: steps 10 beside 1 and 1, and 1 beside 2 and 2.
    assert seam_ratio(image, corner) == pytest.approx((2 * 10 + 2 * 1) / (2 * 1 + 2 * 2))


@given(
    mask=arrays(bool, (9, 7)),
    slopes=st.tuples(st.integers(-300, 300), st.integers(1, 300)),
)
def test_a_slope_has_no_seam_whatever_the_masks_shape(mask, slopes):
    rows, columns = np.mgrid[:9, :7]
    ratio = seam_ratio(rows * slopes[0] + columns * slopes[1] - 1000, mask)
    # Without a step along the columns, a border that runs along the rows alone is flat on flat: 1 as well.
    assert math.isnan(ratio) or ratio == 1


@given(
    centre=st.tuples(st.floats(20, 44), st.floats(20, 44)),
    radius=st.floats(8, 16),
    wavelength=st.floats(40, 100),
    angle=st.floats(0, 2 * math.pi),
    phase=st.floats(0, 2 * math.pi),
)
def test_a_smooth_wave_has_no_seam(centre, radius, wavelength, angle, phase):
    rows, columns = np.mgrid[:64, :64]
    along = rows * math.sin(angle) + columns * math.cos(angle)
    image = 400 * np.sin(2 * math.pi * along / wavelength + phase)
    # A step of a sine is the mean of those beside it over the cosine of the angle between them; less only
    # where a crest lies between.
    largest = 1 / math.cos(2 * math.pi / wavelength)
    assert 0.8 < seam_ratio(image, disc(64, radius, centre)) < largest + 1e-9


def test_noise_has_no_seam():
    ratios = [seam_ratio(noisy(64, seed, 0, 50), disc(64, 16)) for seed in range(100)]
    spread = np.std(ratios, ddof=1)
    assert np.mean(ratios) == pytest.approx(1, abs=5 * spread / 10)
    assert spread < 0.15


def test_a_pasted_constant_and_a_change_of_brightness_show():
    image, mask = noisy(64, 0, grain=3, spread_hu=50), disc(64, 10)
    assert seam_ratio(np.where(mask, 500, image), mask) > 50
    ratios = [seam_ratio(image + np.int16(shift) * mask, mask) for shift in (0, 20, 40, 80)]
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(1, abs=0.1)
    assert ratios[1] > 2


@given(image=arrays(np.int16, (8, 6), elements=INT16), mask=arrays(bool, (8, 6)), turns=st.integers(0, 3))
def test_turning_mirroring_and_exchanging_the_sides_change_nothing(image, mask, turns):
    ratio = seam_ratio(image, mask)
    for other in (
        seam_ratio(np.rot90(image, turns), np.rot90(mask, turns)),
        seam_ratio(image[::-1], mask[::-1]),
        seam_ratio(image[:, ::-1], mask[:, ::-1]),
        seam_ratio(image, ~mask),
    ):
        assert other == ratio or (math.isnan(other) and math.isnan(ratio))


def test_steps_larger_than_int16_are_not_wrapped():
    line = np.array([[-32768, -32767, 32766, 32767]], dtype=np.int16)
    assert seam_ratio(line, np.array([[False, False, True, True]])) == 65533


def test_a_flat_image_an_edge_between_flat_sides_and_no_border():
    mask = disc(16, 5)
    assert seam_ratio(np.full((16, 16), -1000, np.int16), mask) == 1
    assert seam_ratio(np.where(mask, 40, -1000), mask) == math.inf
    assert math.isnan(seam_ratio(np.zeros((16, 16)), np.zeros((16, 16), dtype=bool)))
    assert math.isnan(seam_ratio(np.zeros((16, 16)), np.ones((16, 16), dtype=bool)))
    assert math.isnan(seam_ratio(np.zeros((2, 2)), np.eye(2, dtype=bool)))


@pytest.mark.real_data
def test_on_real_slices_only_what_was_pasted_shows():
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder:
        pytest.skip("LUNGFORGE_REAL_DATA does not name the folder of real slices")
    paths = sorted(Path(folder, "luna16_mini").glob("subset*/*.mhd"))[::8]
    assert len(paths) >= 50
    slices = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0] for path in paths]
    slices = [hu.reshape(128, 4, 128, 4).mean(axis=(1, 3)) for hu in slices]
    generator = np.random.default_rng(0)
    for radius in (4, 8, 16):
        untouched, pasted = [], []
        for index, hu in enumerate(slices):
            other = slices[index - 1]
            for _ in range(8):
                mask = disc(128, radius, tuple(generator.integers(32, 96, 2)))
                untouched.append(seam_ratio(hu, mask))
                pasted.append(seam_ratio(np.where(mask, other, hu), mask))
        assert np.mean(untouched) == pytest.approx(1, abs=0.05)
        low, high = np.quantile(untouched, [0.05, 0.95])
        assert 0.55 < low < high < 1.55
        assert 5 < np.mean(pasted) < 9

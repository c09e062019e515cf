import numpy as np
import pytest
from scipy import ndimage, stats

from lungforge.metrics import texture

MASK = np.zeros((24, 20), dtype=bool)
MASK[3:20, 2:15] = True
MASK[8:11, 6:9] = False
VALUES = np.random.default_rng(0).integers(-1000, 401, size=MASK.shape).astype(np.float32)


def in_interior():
    """Rows and columns whose nine pixels are all in the region, one by one."""
    return [
        (row, column)
        for row in range(1, 23)
        for column in range(1, 19)
        if all(MASK[row + down, column + right] for down in (-1, 0, 1) for right in (-1, 0, 1))
    ]


def test_the_interior_has_all_neighbours_in_the_region():
    assert list(zip(*np.nonzero(texture.interior(MASK)), strict=True)) == in_interior()


def test_local_operators_equal_the_sums_written_out():
    laplacian, deviation = texture.laplacian(VALUES), texture.local_deviation(VALUES)
    gradient = texture.gradient(VALUES, (1.5, 0.7))
    for row, column in in_interior():
        patch = VALUES[row - 1 : row + 2, column - 1 : column + 2].astype(float)
        cross = patch[0, 1] + patch[2, 1] + patch[1, 0] + patch[1, 2] - 4 * patch[1, 1]
        assert laplacian[row, column] == pytest.approx(cross)
        assert deviation[row, column] == pytest.approx(patch.std())
        down, right = (patch[2, 1] - patch[0, 1]) / 3.0, (patch[1, 2] - patch[1, 0]) / 1.4
        assert gradient[row, column] == pytest.approx(np.hypot(down, right), rel=1e-5)


def test_bands_equal_a_slow_sum_over_the_pixels_of_the_region_alone():
    spacing, sigmas = (1.5, 2.0), (2.0, 4.0)
    places = np.argwhere(MASK)
    before = VALUES[MASK].astype(float)
    expected = []
    for sigma in sigmas:
        smooth = []
        for row, column in places:
            total = weight = 0.0
            for other_row, other_column in places:
                down, right = other_row - row, other_column - column
                if max(abs(down) * spacing[0], abs(right) * spacing[1]) > 100:
                    continue
                reach = [int(3.0 * sigma / step + 0.5) for step in spacing]
                if abs(down) > reach[0] or abs(right) > reach[1]:
                    continue
                part = np.exp(-((down * spacing[0]) ** 2 + (right * spacing[1]) ** 2) / (2 * sigma**2))
                total += part * VALUES[other_row, other_column]
                weight += part
            smooth.append(total / weight)
        expected.append((before - smooth).std())
        before = np.array(smooth)
    assert texture.band_deviations(VALUES, MASK, spacing, sigmas) == pytest.approx(expected, rel=1e-4)
    # What surrounds the region has no influence.
    other = np.where(MASK, VALUES, np.float32(400))
    assert texture.band_deviations(other, MASK, spacing, sigmas) == pytest.approx(expected, rel=1e-4)


def test_bands_are_of_mm_and_not_of_pixels():
    """A texture of 2 mm at 1 mm pixels, and the same at pixels of half the size."""
    noise = np.random.default_rng(1).normal(size=(60, 60)) * 100
    image = ndimage.gaussian_filter(noise, 2.0).astype(np.float32)
    finer = image.repeat(2, axis=0).repeat(2, axis=1)
    one, half = (
        texture.band_deviations(each, np.ones(each.shape, bool), (step, step), (4.0, 8.0))
        for each, step in ((image, 1.0), (finer, 0.5))
    )
    assert half == pytest.approx(one, rel=0.03)


def test_grey_levels_are_25_hu_wide_and_entropy_is_that_of_scipy():
    assert texture.grey_levels(np.float32([-1000, -975.5, -975, 400])).tolist() == [0, 0, 1, 56]
    levels = texture.grey_levels(VALUES[MASK])
    _, counts = np.unique(levels, return_counts=True)
    assert texture.entropy(levels) == pytest.approx(stats.entropy(counts, base=2))
    assert texture.entropy(np.array([3, 3, 9, 9])) == 1.0


def test_co_occurrence_equals_that_of_the_matrix_of_ibsi():
    levels = texture.grey_levels(ndimage.uniform_filter(VALUES, 3))
    matrix = np.zeros((60, 60))
    for row, column in np.argwhere(MASK):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if (down or right) and MASK[row + down, column + right]:
                    matrix[levels[row, column], levels[row + down, column + right]] += 1
    matrix /= matrix.sum()
    i, j = np.indices(matrix.shape)
    mean = (i * matrix).sum()
    variance = ((i - mean) ** 2 * matrix).sum()
    correlation = ((i * j * matrix).sum() - mean**2) / variance
    homogeneity = (matrix / (1 + (i - j) ** 2)).sum()
    assert texture.co_occurrence(levels, MASK) == pytest.approx((correlation, homogeneity))
    assert correlation > 0.3


def test_co_occurrence_of_known_regions():
    board = np.indices((6, 6)).sum(axis=0) % 2
    everything = np.ones((6, 6), bool)
    # A chess board of levels 0 and 1: 60 pairs along rows and columns differ, 50 along diagonals do not.
    assert texture.co_occurrence(board, everything) == pytest.approx((-10 / 110, (60 / 2 + 50) / 110))
    assert texture.co_occurrence(np.full((6, 6), 4), everything) == (1.0, 1.0)

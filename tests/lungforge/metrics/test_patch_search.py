import itertools

import numpy as np
import pytest
from scipy import ndimage

from lungforge.metrics.near_duplicates import Query
from lungforge.metrics.patch_search import best_positions, best_positions_on_grids, cell_px, cells
from tests.lungforge.metrics.test_near_duplicates import rendered, thorax_map


def slow_best(patch, image, beyond):
    """The best position of the inner part of a patch, mirrored or not, by a loop over all positions."""
    padded = np.pad(image, beyond)
    side = len(patch)
    best = (-2.0, (0, 0))
    for flip, row, column in itertools.product(
        (False, True), range(padded.shape[0] - side + 1), range(padded.shape[1] - side + 1)
    ):
        view = (patch[:, ::-1] if flip else patch)[2:-2, 2:-2]
        window = padded[row + 2 : row + side - 2, column + 2 : column + side - 2]
        one, other = view - view.mean(), window - window.mean()
        least = view.size * 0.3**2
        value = (one * other).sum() / np.sqrt(((one**2).sum() + least) * ((other**2).sum() + least))
        best = max(best, (value, (row - beyond, column - beyond)))
    return best


def test_all_positions_are_compared_as_by_a_slow_loop():
    generator = np.random.default_rng(0)
    patches = generator.normal(size=(2, 16, 16)).astype(np.float32)
    slices = generator.normal(size=(3, 20, 22)).astype(np.float32)
    correlations, corners = best_positions(patches, slices, 32)
    assert cell_px(32) == 2
    for patch, image in itertools.product(range(2), range(3)):
        value, corner = slow_best(patches[patch], slices[image], 2)
        assert correlations[patch, image] == pytest.approx(value, abs=1e-5)
        assert tuple(corners[patch, image]) == tuple(2 * cell for cell in corner)


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_patch_that_begins_within_a_cell_is_placed_within_half_a_cell(size, mirrored):
    generator = np.random.default_rng(1)
    slices = np.stack(
        [
            ndimage.gaussian_filter(generator.normal(size=(2 * size, 2 * size + 8)), size / 16)
            for _ in range(2)
        ]
    )
    slices = np.clip(127 + 60 * slices / slices.std(), 0, 255).astype(np.uint8)
    cell = cell_px(size)
    for corner in itertools.product(range(2 * cell, 3 * cell), range(4 * cell, 5 * cell)):
        patch = slices[1, corner[0] : corner[0] + size, corner[1] : corner[1] + size]
        patch = patch[:, ::-1] if mirrored else patch
        correlations, corners = best_positions_on_grids(patch[None].copy(), cells(slices, size), size)
        assert correlations[0].argmax() == 1
        assert np.abs(corners[0, 1] - corner).max() <= cell // 2


def test_slices_smaller_than_the_patch_hold_no_place():
    patches, slices = np.ones((1, 16, 16), np.float32), np.ones((2, 8, 8), np.float32)
    assert best_positions(patches, slices, 32)[0].tolist() == [[-1, -1]]


@pytest.mark.parametrize("corner", [(0, 0), (17, 40), (33, 51), (64, 64), (2, 61)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_patch_from_anywhere_is_detected_in_its_slice(corner, mirrored):
    label = thorax_map(128)
    slices = np.stack([rendered(label, seed) for seed in range(6)])
    cut = np.s_[corner[0] : corner[0] + 64, corner[1] : corner[1] + 64]
    patch, of_patch = slices[4][cut], label[cut]
    if mirrored:
        patch, of_patch = patch[:, ::-1], of_patch[:, ::-1]
    correlations, corners = best_positions(cells(patch[None], 64), cells(slices, 64), 64)
    assert correlations[0].argmax() == 4
    query = Query.of(patch, of_patch)
    within = cell_px(64) // 2
    real = [
        query.part_of(one, label, tuple(place), within) for one, place in zip(slices, corners[0], strict=True)
    ]
    best, resemblance = query.resemblance(real)
    assert best == 4
    assert resemblance.is_near_duplicate
    assert resemblance.mirrored == mirrored
    assert not query.resemblance([one for index, one in enumerate(real) if index != 4])[1].is_near_duplicate

"""Patches: in the picture, with their nodule, and nothing moved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.datasets.patches import cut_patch
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from tests.factories import nodule_at, slice_of

HEIGHT, WIDTH = 40, 50


def _slice(nodules: list[tuple[float, float, float]]) -> SliceRow:
    # Every pixel says where it is.
    rows, columns = np.indices((HEIGHT, WIDTH))
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[10:30, 15:35] = 1
    for x, y, _ in nodules:
        label[round(y), round(x)] = 5
    return slice_of(
        slice_index=3,
        spacing_mm=(0.7, 0.7),
        image=(100 * rows + columns).astype(np.int16),
        label=label,
        nodules=[nodule_at(x, y, diameter) for x, y, diameter in nodules],
    )


places = st.tuples(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1), st.floats(1, 30))


@given(nodules=st.lists(places, min_size=1, max_size=3), size=st.integers(4, 40), seed=st.integers(0, 999))
@settings(max_examples=100, deadline=None)
def test_a_patch_holds_a_nodule_at_its_place(
    nodules: list[tuple[float, float, float]], size: int, seed: int
) -> None:
    row = _slice(nodules)
    patch = cut_patch(row, size, np.random.default_rng(seed))
    assert patch.image.shape == patch.label.shape == (size, size)
    top, left = divmod(int(patch.image[0, 0]), 100)
    assert np.array_equal(patch.image, row.image[top : top + size, left : left + size])
    assert np.array_equal(patch.label, row.label[top : top + size, left : left + size])
    assert patch.nodules
    for nodule in patch.nodules:
        whole = {**nodule, "x": nodule["x"] + left, "y": nodule["y"] + top}
        assert any(all(np.isclose(whole[key], other[key]) for key in whole) for other in row.nodules)
        assert min(nodule["x"], nodule["y"]) >= -0.5
        assert max(nodule["x"], nodule["y"]) <= size - 0.5


def test_nodules_are_in_and_off_centre() -> None:
    row = _slice([(25.0, 20.0, 4.0)])
    patches = [cut_patch(row, 16, np.random.default_rng(seed)) for seed in range(200)]
    places = np.array([[patch.nodules[0]["x"], patch.nodules[0]["y"]] for patch in patches])
    # Anywhere that keeps the radius inside, rounding aside.
    assert places.min() >= 1.5
    assert places.max() <= 13.5
    assert places.std(axis=0).min() > 2.5


def test_without_nodules_the_patch_is_on_the_patient() -> None:
    patches = [cut_patch(_slice([]), 8, np.random.default_rng(seed)) for seed in range(50)]
    assert all(patch.label.any() for patch in patches)
    assert len({int(patch.image[0, 0]) for patch in patches}) > 20


def test_a_patch_larger_than_the_slice_is_refused() -> None:
    with pytest.raises(InputError, match="patch is 41 px and the images are 40 x 50"):
        cut_patch(_slice([]), 41, np.random.default_rng(0))

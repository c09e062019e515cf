"""Places that look like a nodule and are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE
from lungforge.ct.hard_negatives import hardest_negative, window_around


def _lung(side: int = 80) -> tuple[np.ndarray, np.ndarray]:
    label = np.full((side, side), BODY, np.uint8)
    label[10:70, 10:70] = LEFT_LUNG
    return np.where(label == LEFT_LUNG, -850, 40).astype(np.int16), label


def _disc(hu: np.ndarray, row: int, column: int, radius: float, value: int) -> np.ndarray:
    rows, columns = np.indices(hu.shape)
    inside = np.hypot(rows - row, columns - column) <= radius
    hu[inside] = value
    return inside


def test_a_disc_of_a_nodules_size_is_chosen_not_the_wall_and_not_a_large_one() -> None:
    hu, label = _lung()
    _disc(hu, 30, 40, 3.5, 0)
    _disc(hu, 55, 25, 10, 0)
    assert hardest_negative(hu, label, (1.0, 1.0), 16) == (30, 40)


def test_spacing_decides_what_size_that_is() -> None:
    hu, label = _lung()
    _disc(hu, 28, 28, 2.0, 0)
    _disc(hu, 52, 52, 7.0, 0)
    assert hardest_negative(hu, label, (0.5, 0.5), 16) == (52, 52)
    assert hardest_negative(hu, label, (1.75, 1.75), 16) == (28, 28)


def test_no_piece_of_a_nodule_is_in_the_window() -> None:
    hu, label = _lung()
    label[_disc(hu, 40, 40, 4, 0)] = NODULE
    _disc(hu, 40, 51, 3, -100)  # a vessel beside it
    place = hardest_negative(hu, label, (1.0, 1.0), 32)
    assert place is not None
    top, left = window_around(*place, 32, hu.shape)
    assert (label[top : top + 32, left : left + 32] != NODULE).all()
    label[12:70:9, 12:70:9] = NODULE
    assert hardest_negative(hu, label, (1.0, 1.0), 32) is None
    assert hardest_negative(hu, np.full_like(label, BODY), (1.0, 1.0), 32) is None


@settings(max_examples=100, deadline=None)
@given(st.floats(-5, 70), st.floats(-5, 70), st.integers(4, 33))
def test_a_window_lies_in_the_picture_and_as_central_as_it_can(row: float, column: float, size: int) -> None:
    for centre, first, side in zip(
        (row, column), window_around(row, column, size, (40, 60)), (40, 60), strict=True
    ):
        assert 0 <= first <= side - size
        distance = abs(first + (size - 1) / 2 - centre)
        assert all(
            distance <= abs(other + (size - 1) / 2 - centre) + 1e-9 for other in range(side - size + 1)
        )


def test_a_window_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of 32 px does not fit into an image of 20 x 64"):
        window_around(3, 3, 32, (20, 64))

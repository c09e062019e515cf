"""Places of images, by hand."""

import math

import pytest

from lungforge.models.place import VALUES, place_of


def test_a_whole_slice_is_in_the_middle_of_itself() -> None:
    place = place_of((0.5, 2.0), (64, 64), (64, 64))
    assert place.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert len(place) == VALUES


def test_a_patch_in_a_corner_is_there() -> None:
    # Its centre is at row 8 of 64 and column 120 of 128.
    place = place_of((0.7, 0.7), (64, 128), (16, 16), (0, 112))
    assert place.tolist() == pytest.approx([math.log(0.7), -0.75, 0.875, 1.0])


def test_a_mirrored_patch_is_on_the_other_side() -> None:
    place = place_of((1.0, 1.0), (64, 128), (16, 16), (0, 112), mirrored=True)
    assert place.tolist() == pytest.approx([0.0, -0.75, -0.875, 1.0])

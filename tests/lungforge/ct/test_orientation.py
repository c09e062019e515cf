"""Slices that are stored turned by 180 degrees come out upright, with their maps and nodules."""

import numpy as np

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.orientation import has_sides, is_turned, shown, upright


def standing() -> tuple[np.ndarray, np.ndarray, list[dict[str, float]]]:
    """The patient's right lung on the left, and a nodule in it at column 2 and row 1."""
    label = np.full((5, 9), BODY, np.uint8)
    label[1:4, 1:4], label[1:4, 5:8] = RIGHT_LUNG, LEFT_LUNG
    label[1, 2] = NODULE
    image = np.arange(45).reshape(5, 9).astype(np.int16)
    return image, label, [{"x": 2.25, "y": 1.0, "diameter_px": 1.0, "diameter_mm": 4.0}]


def test_an_upright_slice_stays_as_it_is() -> None:
    image, label, nodules = standing()
    same = upright(image, label, nodules)
    assert not same.turned
    assert same.image is image
    assert same.label is label
    assert same.nodules == nodules


def test_a_turned_slice_is_turned_back_with_its_nodules() -> None:
    image, label, nodules = standing()
    stored = [nodules[0] | {"x": 8 - 2.25, "y": 4 - 1.0}]
    back = upright(image[::-1, ::-1], label[::-1, ::-1], stored)
    assert back.turned
    np.testing.assert_array_equal(back.image, image)
    np.testing.assert_array_equal(back.label, label)
    assert back.nodules == nodules
    assert back.label[1, 2] == NODULE


def test_one_lung_alone_does_not_tell_which_way_up() -> None:
    label = np.full((5, 9), BODY, np.uint8)
    label[1:4, 1:4] = LEFT_LUNG
    assert not has_sides(label)
    assert not is_turned(label)


def test_an_image_is_shown_as_its_map_says() -> None:
    image, label, _ = standing()
    colours = np.repeat(image[..., None], 3, axis=2)
    assert shown(colours, label) is colours
    np.testing.assert_array_equal(shown(colours[::-1, ::-1], label[::-1, ::-1]), colours)

"""The box of a nodule is that of its pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lungforge.ct.classes import NODULE
from lungforge.ct.nodules import nodule_boxes, nodule_masks

SIZE = 16


def test_two_nodules_that_touch_have_a_box_each() -> None:
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[4:8, 2:10] = NODULE
    nodules = [
        {"x": 3.5, "y": 5.5, "diameter_px": 4.0, "diameter_mm": 4.0},
        {"x": 7.5, "y": 5.5, "diameter_px": 4.0, "diameter_mm": 4.0},
    ]
    assert nodule_boxes(label, nodules) == [(2.0, 4.0, 4.0, 4.0), (6.0, 4.0, 4.0, 4.0)]


def test_a_nodule_without_a_pixel_has_the_box_of_its_circle() -> None:
    nodule = {"x": 1.0, "y": 8.0, "diameter_px": 4.0, "diameter_mm": 4.0}
    assert nodule_boxes(np.zeros((SIZE, SIZE), np.uint8), [nodule]) == [(0.0, 6.5, 3.5, 4.0)]


def test_a_map_without_nodules_has_no_boxes() -> None:
    assert nodule_boxes(np.full((SIZE, SIZE), NODULE, np.uint8), []) == []


@given(
    rows=st.integers(0, SIZE - 1),
    columns=st.integers(0, SIZE - 1),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_the_box_of_a_rectangle_is_the_rectangle(rows: int, columns: int, height: int, width: int) -> None:
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[rows : rows + height, columns : columns + width] = NODULE
    bottom, right = min(rows + height, SIZE), min(columns + width, SIZE)
    centre = {
        "x": (columns + right - 1) / 2,
        "y": (rows + bottom - 1) / 2,
        "diameter_px": 1.0,
        "diameter_mm": 1.0,
    }
    assert nodule_boxes(label, [centre]) == [(columns, rows, right - columns, bottom - rows)]


def test_masks_share_out_all_nodule_pixels_by_relative_distance() -> None:
    """Each pixel goes to the nodule whose centre is nearest in diameters, as a loop over the pixels finds."""
    rng = np.random.default_rng(0)
    label = np.where(rng.random((12, 14)) < 0.4, NODULE, 1).astype(np.uint8)
    nodules = [
        {"x": 2.5, "y": 3.0, "diameter_px": 2.0},
        {"x": 9.0, "y": 8.5, "diameter_px": 6.0},
        {"x": 30.0, "y": 30.0, "diameter_px": 0.1},
    ]
    masks = nodule_masks(label, nodules)
    for y, x in np.ndindex(label.shape):
        distances = [np.hypot(x - n["x"], y - n["y"]) / n["diameter_px"] for n in nodules]
        holders = [bool(mask[y, x]) for mask in masks]
        nearest = int(np.argmin(distances))
        assert holders == [label[y, x] == NODULE and index == nearest for index in range(3)]
    assert not masks[2].any()
    assert nodule_masks(label, []) == []

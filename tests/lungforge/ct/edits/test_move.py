import math
from collections import Counter

import numpy as np
import pytest

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.edits.move import move


def lung(height: int, width: int, value: int = LEFT_LUNG) -> np.ndarray:
    """A lung of that size, in a body of one pixel more on each side."""
    label = np.full((height + 2, width + 2), BODY, np.uint8)
    label[1:-1, 1:-1] = value
    return label


def nodule(x: float, y: float, diameter: float) -> dict[str, float]:
    return {"x": x, "y": y, "diameter_px": diameter, "diameter_mm": diameter}


def seeds(label: np.ndarray, nodules: list, count: int, spacing_mm: tuple = (1.0, 1.0)) -> list:
    return [
        move(label, nodules, spacing_mm=spacing_mm, generator=np.random.default_rng(seed))
        for seed in range(count)
    ]


def test_every_place_with_room_is_as_likely_and_no_other() -> None:
    label = lung(7, 9)
    # An L at the wall: it is moved off it, and keeps its shape.
    label[1:3, 1] = label[2, 2] = NODULE
    results = seeds(label, [nodule(1.25, 1.5, 2.2)], 1500)
    places = Counter((each.nodules[0]["x"], each.nodules[0]["y"]) for each in results)
    # The room is 3 x 5 pixels: rows 3 to 5, columns 3 to 7; an L of 2 x 2 has 2 x 4 places there.
    expected = {(3.25 + column, 3.5 + row) for row in range(2) for column in range(4)}
    assert set(places) == expected
    # Chi-square of seven degrees of freedom: 24.3 is passed once in a thousand.
    assert sum((count - 1500 / 8) ** 2 for count in places.values()) / (1500 / 8) < 24.3
    for each in results[:20]:
        row, column = (round(each.nodules[0][axis] - first) for axis, first in (("y", 1.5), ("x", 1.25)))
        expected_label = lung(7, 9)
        expected_label[row + 1 : row + 3, column + 1] = expected_label[row + 2, column + 2] = NODULE
        np.testing.assert_array_equal(each.label, expected_label)


@pytest.mark.parametrize(("width", "there"), [(5, False), (6, True)])
def test_the_last_place_is_used_and_one_pixel_less_has_none(width: int, there: bool) -> None:
    label = lung(5, width)
    label[3, 3] = NODULE  # the room is one row, from column 3 on
    (result,) = seeds(label, [nodule(3, 3, 1)], 1)
    assert (result is not None) == there
    if result is not None:
        assert result.nodules == (nodule(4, 3, 1),)
        assert np.argwhere(result.changed).tolist() == [[3, 3], [3, 4]]


def test_the_margin_is_in_mm_along_rows_and_columns() -> None:
    label = lung(9, 9)
    label[1, 1] = NODULE
    for spacing, rows, columns in (((1.0, 1.0), 5, 5), ((3.0, 0.5), 7, 1), ((0.9, 2.1), 5, 7)):
        places = {
            (each.nodules[0]["y"], each.nodules[0]["x"])
            for each in seeds(label, [nodule(1, 1, 1)], 400, spacing)
        }
        assert len({y for y, _ in places}) == rows, spacing
        assert len({x for _, x in places}) == columns, spacing


def test_a_nodule_stays_in_its_lung_and_clear_of_the_other_nodule() -> None:
    label = np.hstack([lung(9, 9, RIGHT_LUNG)[:, :-1], lung(9, 9, LEFT_LUNG)[:, 1:]])
    label[5, 5] = NODULE
    for each in seeds(label, [nodule(5, 5, 1)], 200):
        assert each.label[5, 5] == RIGHT_LUNG
        # The right lung ends with column 9.
        assert 3 <= each.nodules[0]["x"] <= 7


def test_other_nodules_stay_and_are_kept_clear_of() -> None:
    label = lung(15, 15)
    label[4, 4] = label[12, 12] = NODULE
    nodules = [nodule(4, 4, 1), nodule(12, 12, 1)]
    moved = Counter()
    for each in seeds(label, nodules, 300):
        index = 0 if each.nodules[0] != nodules[0] else 1
        moved[index] += 1
        (old, new), still = (nodules[index], each.nodules[index]), nodules[1 - index]
        assert each.nodules[1 - index] == still
        assert each.label[int(still["y"]), int(still["x"])] == NODULE
        assert each.label[int(old["y"]), int(old["x"])] == LEFT_LUNG
        assert math.hypot(new["x"] - still["x"], new["y"] - still["y"]) > 2
    assert min(moved.values()) > 110


def test_where_one_has_no_room_the_other_is_moved() -> None:
    label = np.vstack([lung(3, 13, RIGHT_LUNG), lung(9, 13, LEFT_LUNG)])
    label[2, 7] = label[9, 7] = NODULE
    nodules = [nodule(7, 2, 1), nodule(7, 9, 1)]
    for each in seeds(label, nodules, 20):
        assert each.nodules[0] == nodules[0]
        assert each.nodules[1] != nodules[1]


def test_a_small_nodule_is_not_moved_to_where_its_pixels_would_be_a_large_ones() -> None:
    label = lung(9, 24)
    label[4:7, 4:7] = NODULE
    label[5, 20] = NODULE
    # The slice passes the large one far from its middle: it shows little of its diameter.
    large, small = nodule(5, 5, 12), nodule(20.5, 5.5, 1)
    columns = {each.nodules[1]["x"] for each in seeds(label, [large, small], 400) if each.nodules[1] != small}
    # A pixel 0.7 diameters from its centre is nearer to the large one's within 8.5 px of that.
    assert min(columns) >= 5 + 8.5
    assert len(columns) >= 6


def test_a_centre_beside_the_pixels_stays_in_the_image() -> None:
    label = lung(9, 20)
    label[5, 12] = NODULE
    centres = {each.nodules[0]["x"] for each in seeds(label, [nodule(6.25, 5, 12)], 300)}
    # The pixel has room from column 3 on; at column 5 the centre is at -0.75, past the edge.
    assert min(centres) == 0.25
    assert max(centres) == 12.25


def test_nothing_moves_that_is_cut_by_the_edge_or_in_no_lung() -> None:
    cut = np.full((15, 15), LEFT_LUNG, np.uint8)
    cut[0:2, 6:9] = NODULE
    outside = lung(15, 15)
    outside[0, 5] = BODY
    outside = np.pad(outside, 4, constant_values=BODY)
    outside[2, 2] = NODULE
    assert seeds(cut, [nodule(7, 0, 3)], 1) == [None]
    assert seeds(outside, [nodule(2, 2, 1)], 1) == [None]
    assert seeds(lung(9, 9), [], 1) == [None]

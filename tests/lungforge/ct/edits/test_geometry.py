import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.edits.geometry import (
    free_area,
    is_consistent,
    placements,
    surrounding_class,
    visible_nodules,
)
from lungforge.ct.nodules import nodule_boxes


def nodule(x: float, y: float, diameter: float) -> dict[str, float]:
    return {"x": x, "y": y, "diameter_px": diameter, "diameter_mm": diameter}


def parse_map(rows: list[str]) -> np.ndarray:
    return np.array([[int(value) for value in row] for row in rows], np.uint8)


def test_pixels_are_the_nearest_nodules_in_diameters() -> None:
    label = parse_map(["222222222", "255555552", "222222222"])
    # Half-way between the centres is column 4; of diameters 6 and 2, the border is a quarter of the way back.
    large, small = nodule(1, 1, 6), nodule(7, 1, 2)
    shown = visible_nodules(label, [large, small])
    assert [each.nodule for each in shown] == [large, small]
    assert [np.flatnonzero(each.mask[1]).tolist() for each in shown] == [[1, 2, 3, 4, 5], [6, 7]]
    # As those who read the row find them.
    assert nodule_boxes(label, [large, small]) == [(1, 1, 5, 1), (6, 1, 2, 1)]


def test_of_two_nodules_in_one_pixel_one_is_shown() -> None:
    label = parse_map(["222", "252", "222"])
    near, far = nodule(1.1, 1, 0.5), nodule(1.4, 1.2, 0.5)
    assert [each.nodule for each in visible_nodules(label, [far, near])] == [near]
    assert visible_nodules(label, []) == []
    assert visible_nodules(np.full((3, 3), LEFT_LUNG, np.uint8), [near]) == []


def test_a_piece_far_from_every_centre_is_nobodys() -> None:
    label = np.full((40, 40), LEFT_LUNG, np.uint8)
    label[18:23, 18:23] = NODULE
    label[0:3, 5:9] = NODULE
    label[22, 22:34] = NODULE  # an arm: far from the centre at its end, and in one piece with it
    (shown,) = visible_nodules(label, [nodule(20, 20, 5)])
    assert shown.mask.sum() == 25 + 11
    assert not shown.mask[:3].any()
    # Seven pixels away is a diameter and what shrinking may add; eight is more.
    spots = np.full((40, 40), LEFT_LUNG, np.uint8)
    spots[20, [20, 27]] = NODULE
    assert visible_nodules(spots, [nodule(20, 20, 5)])[0].mask.sum() == 2
    spots[20, 27:29] = [LEFT_LUNG, NODULE]
    assert visible_nodules(spots, [nodule(20, 20, 5)])[0].mask.sum() == 1


def test_a_nodule_at_the_edge_is_not_whole() -> None:
    for row, column in ((0, 3), (6, 3), (3, 0), (3, 6), (3, 3)):
        label = np.full((7, 7), LEFT_LUNG, np.uint8)
        label[row, column] = NODULE
        assert visible_nodules(label, [nodule(column, row, 1)])[0].is_whole == ((row, column) == (3, 3))


def test_visible_nodules_have_pixels_in_the_map() -> None:
    label = parse_map(["2222222", "2552552", "2222222"])
    shown = visible_nodules(label, [nodule(1.5, 1, 2), nodule(4.5, 1, 2)])
    assert is_consistent(label, shown)
    assert not is_consistent(label, shown[:1])  # the second's pixels would be the first's
    moved = label.copy()
    moved[1, 5], moved[1, 6] = LEFT_LUNG, NODULE
    assert not is_consistent(moved, shown)


@pytest.mark.parametrize(
    ("rows", "home"),
    [
        (["222", "252", "222"], LEFT_LUNG),
        (["233", "253", "233"], RIGHT_LUNG),
        (["111", "153", "111"], RIGHT_LUNG),  # one pixel of lung is enough
        (["141", "151", "111"], BODY),
        (["000", "050", "000"], BODY),
        (["22211", "25551", "22211"], LEFT_LUNG),
        (["33111", "35552", "33111"], RIGHT_LUNG),  # of all that touch: five neighbours against one
    ],
)
def test_the_home_of_a_nodule_is_the_lung_around_it(rows: list[str], home: int) -> None:
    label = parse_map(rows)
    mask = np.zeros(label.shape, bool)
    mask[tuple(np.argwhere(label == NODULE)[-1])] = True
    assert surrounding_class(label, mask) == home


def test_room_is_farther_than_two_mm_from_the_wall_and_past_the_edge_is_wall() -> None:
    lung = np.ones((9, 9), bool)
    # Two rows or columns of 1 mm lie within 2 mm of the wall.
    np.testing.assert_array_equal(np.argwhere(free_area(lung, (1.0, 1.0))).min(axis=0), [2, 2])
    np.testing.assert_array_equal(np.argwhere(free_area(lung, (0.5, 1.1))).min(axis=0), [4, 1])
    # However coarse the pixels, the neighbours of the wall are no room.
    lung[4, 4] = False
    room = free_area(lung, (11.0, 11.0))
    assert not room[3:6, 3:6].any()
    assert room.sum() == 7 * 7 - 9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), height=st.integers(1, 9), width=st.integers(1, 9))
def test_placements_are_all_where_the_shape_lies_in_the_room(seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    room = random.random((12, 15)) < random.uniform(0.5, 1)
    shape = random.random((height, width)) < random.uniform(0.1, 1)
    shape[0, 0] = True
    expected = [
        [row, column]
        for row in range(12 - height + 1)
        for column in range(15 - width + 1)
        if room[row : row + height, column : column + width][shape].all()
    ]
    assert placements(room, shape).tolist() == expected


def test_nothing_has_a_place_where_there_is_no_room() -> None:
    assert placements(np.zeros((5, 5), bool), np.ones((1, 1), bool)).shape == (0, 2)
    assert placements(np.ones((5, 5), bool), np.ones((6, 1), bool)).shape == (0, 2)

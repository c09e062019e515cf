import time
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.insert import insert
from lungforge.errors import InputError


def lung(height: int, width: int, value: int = LEFT_LUNG) -> np.ndarray:
    """A lung of that size, in a body of one pixel more on each side."""
    label = np.full((height + 2, width + 2), BODY, np.uint8)
    label[1:-1, 1:-1] = value
    return label


def seeds(
    label: np.ndarray, diameters_mm: list[float], count: int, spacing_mm: tuple = (1.0, 1.0)
) -> list[EditedMap | None]:
    return [
        insert(
            label,
            spacing_mm=spacing_mm,
            generator=np.random.default_rng(seed),
            diameters_mm=np.array(diameters_mm),
        )
        for seed in range(count)
    ]


def test_a_diameter_is_chosen_as_often_as_it_is_given() -> None:
    counts = Counter(
        each.nodules[0]["diameter_mm"] for each in seeds(lung(40, 40), [4.0, 4.0, 9.5, 4.0], 400)
    )
    assert set(counts) == {4.0, 9.5}
    assert counts[9.5] == pytest.approx(100, abs=4 * np.sqrt(400 * 0.25 * 0.75))


@pytest.mark.parametrize(
    ("spacing_mm", "diameter_mm", "pixels"),
    [
        ((1.0, 1.0), 10.0, 79),  # pi / 4 * 100 = 78.54
        ((0.7, 0.7), 12.3, 242),  # 118.82 mm2 / 0.49 = 242.5, which the fine outline's area rounds down
        ((2.0, 0.5), 10.0, 79),
        ((11.25, 11.25), 4.0, 1),  # 0.1 pixels, and there all the same
        ((5.0, 5.0), 7.0, 2),  # 1.54
    ],
)
def test_the_area_is_that_of_the_disc_of_the_diameter(
    spacing_mm: tuple[float, float], diameter_mm: float, pixels: int
) -> None:
    for each in seeds(lung(60, 60), [diameter_mm], 20, spacing_mm):
        mask = each.label == NODULE
        assert abs(mask.sum() - pixels) <= (diameter_mm == 12.3)
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
        (nodule,) = each.nodules
        assert nodule["diameter_px"] == pytest.approx(diameter_mm / np.sqrt(spacing_mm[0] * spacing_mm[1]))
        row, column = ndimage.center_of_mass(mask)
        # The middle of an irregular outline is not that of its area.
        assert abs(nodule["y"] - row) <= 0.6 + 0.15 * diameter_mm / spacing_mm[0]
        assert abs(nodule["x"] - column) <= 0.6 + 0.15 * diameter_mm / spacing_mm[1]


def test_outlines_are_as_long_as_wide_in_mm_and_each_its_own() -> None:
    results = seeds(lung(60, 120), [14.0], 60, (1.5, 0.5))
    sizes = np.array([np.ptp(np.argwhere(each.label == NODULE), axis=0) + 1 for each in results])
    assert (sizes * (1.5, 0.5)).mean(axis=0) == pytest.approx([15, 15], abs=2)
    shapes = set()
    for each in results:
        rows, columns = np.nonzero(each.label == NODULE)
        shapes.add((tuple(rows - rows.min()), tuple(columns - columns.min())))
    assert len(shapes) == 60


def test_where_the_chosen_diameter_has_no_room_the_largest_smaller_one_is_taken() -> None:
    # The room is 3 x 3 pixels: three pixels in one piece (2 mm) always fit, ten (3.6 mm) never.
    for each in seeds(lung(7, 7), [1.0, 2.0, 3.6, 30.0], 60):
        assert each.nodules[0]["diameter_mm"] in (1.0, 2.0)
        assert (each.label[3:6, 3:6] == NODULE).sum() == (each.label == NODULE).sum()
    counts = Counter(each.nodules[0]["diameter_mm"] for each in seeds(lung(7, 7), [1.0, 2.0, 3.6, 30.0], 200))
    assert counts[1.0] == pytest.approx(50, abs=4 * np.sqrt(200 * 0.25 * 0.75))  # only if it was sampled
    assert seeds(lung(7, 7), [3.6, 30.0], 3) == [None] * 3
    assert seeds(lung(4, 40), [1.0], 1) == [None]


def test_a_nodule_fits_when_its_area_rounds_to_the_room() -> None:
    (edited,) = seeds(lung(5, 5), [1.33], 1)  # 1.39 pixels, and room for one
    assert np.argwhere(edited.label == NODULE).tolist() == [[3, 3]]
    assert seeds(lung(5, 5), [1.4], 1) == [None]  # 1.54


def test_both_lungs_are_used_by_their_room_and_none_is_left() -> None:
    label = np.hstack([lung(9, 9, RIGHT_LUNG)[:, :-1], lung(9, 14, LEFT_LUNG)[:, 1:]])
    columns = Counter(int(np.argwhere(each.label == NODULE)[0, 1]) for each in seeds(label, [1.0], 600))
    # Columns 3 to 7 of the right lung, which ends with 9, and 12 to 21 of the left, which ends with 23.
    assert set(columns) == {*range(3, 8), *range(12, 22)}
    assert sum(columns[column] for column in range(3, 8)) == pytest.approx(200, abs=4 * np.sqrt(600 * 2 / 9))


def test_a_map_with_a_nodule_gets_no_other() -> None:
    label = lung(20, 20)
    label[4, 4] = NODULE
    assert seeds(label, [1.0], 1) == [None]


@pytest.mark.parametrize("diameters_mm", [[], [4.0, 0.0], [-1.0], [float("nan")]])
def test_diameters_must_be_there_and_positive(diameters_mm: list[float]) -> None:
    with pytest.raises(InputError, match=f"{len(diameters_mm)} diameters in mm to sample from; insert needs"):
        seeds(lung(20, 20), diameters_mm, 1)


def test_a_thousand_diameters_are_tried_within_a_second() -> None:
    label = np.full((512, 512), BODY, np.uint8)
    rows, columns = np.indices(label.shape)
    label[np.hypot(rows - 100, columns - 90) < 6] = LEFT_LUNG  # a room of 2 mm to each side of the middle
    before = time.process_time()
    (edited,) = seeds(label, [*np.linspace(4.0, 30.0, 1000), 2.5], 1, (0.7, 0.7))
    assert time.process_time() - before < 1, "about 0.05 s"
    assert edited.nodules[0]["diameter_mm"] == pytest.approx(4.1, abs=0.3)

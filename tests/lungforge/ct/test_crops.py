import math
import random

import numpy as np
import pytest

from lungforge.ct.crops import choose_candidates, cut_crop
from lungforge.ct.geometry import Geometry
from lungforge.ct.io.luna16_tables import Candidate

GEOMETRY = Geometry((100, 100, 10), (0.5, 0.5, 2), (-25.0, 0, 0))


def scan(positives: int, negatives: int, series: str = "1.2") -> list[Candidate]:
    rng = random.Random(1)
    return [
        Candidate(
            series, rng.uniform(-25, 24), rng.uniform(0, 49), rng.uniform(0, 18), int(number < positives)
        )
        for number in range(positives + negatives)
    ]


def test_all_nodules_and_twice_as_many_others_of_the_same_scan() -> None:
    chosen, outside = choose_candidates(scan(3, 50), GEOMETRY, seed=0)
    assert [sum(placed.label == label for placed in chosen) for label in (0, 1)] == [6, 3]
    assert outside == []
    few, _ = choose_candidates(scan(3, 4), GEOMETRY, seed=0)
    assert len(few) == 7
    none, _ = choose_candidates(scan(0, 50), GEOMETRY, seed=0)
    assert none == []
    one_each, _ = choose_candidates(scan(3, 50), GEOMETRY, seed=0, negatives_per_positive=1)
    assert len(one_each) == 6
    assert set(one_each) < set(chosen), "fewer are some of the more"


def test_the_choice_does_not_depend_on_the_order_but_on_the_seed_and_the_series() -> None:
    candidates = scan(2, 60)
    chosen, _ = choose_candidates(candidates, GEOMETRY, seed=7)
    shuffled = random.Random(3).sample(candidates, len(candidates))
    assert choose_candidates([*shuffled, shuffled[0]], GEOMETRY, seed=7)[0] == chosen
    assert choose_candidates(candidates, GEOMETRY, seed=8)[0] != chosen
    assert choose_candidates(scan(2, 60, "1.3"), GEOMETRY, seed=7)[0] != chosen
    # Written down, so that another version of the code does not choose others unseen.
    assert [round(placed.x, 2) for placed in chosen] == [21.23, 47.52, 25.0, 82.08, 13.17, 57.58]


def test_a_candidate_outside_is_skipped_and_named() -> None:
    inside, outside = Candidate("1", -24, 3, 4.9, 1), Candidate("1", -24, 3, 400, 1)
    (placed,), (reason,) = choose_candidates([outside, inside], GEOMETRY, seed=0)
    assert (placed.slice_index, placed.label) == (2, 1)
    assert (placed.x, placed.y) == pytest.approx((2, 6))
    assert "(-24, 3, 400) mm lies outside the volume: voxel (2, 6, 200)" in reason


def test_the_slice_is_the_nearest_at_both_ends_of_the_volume_too() -> None:
    ends = [Candidate("1", 0, 0, z_mm, 1) for z_mm in (-0.99, 18.99)]
    chosen, _ = choose_candidates(ends, GEOMETRY, seed=0)
    assert [placed.slice_index for placed in chosen] == [0, 9]


def test_a_crop_has_its_candidate_in_the_middle() -> None:
    hu = np.arange(100 * 100).reshape(100, 100).astype(np.int16)
    crop = cut_crop(hu, 50.4, 29.6)
    np.testing.assert_array_equal(crop, hu[14:46, 34:66])
    assert crop[16, 16] == hu[30, 50]
    crop[:] = 0
    assert hu[30, 50] == 3050, "a copy"


@pytest.mark.parametrize(("x", "y"), [(-0.4, 2), (99.4, 50), (50, 99.49), (3, -0.5)])
def test_past_the_edge_is_air(x: float, y: float) -> None:
    hu = np.full((100, 100), 7, np.int16)
    crop = cut_crop(hu, x, y)
    assert crop.shape == (32, 32)
    assert set(np.unique(crop)) == {-1000, 7}
    column, row = (min(max(math.floor(value + 0.5), 0), 99) for value in (x, y))
    inside = (min(row + 16, 100) - max(row - 16, 0)) * (min(column + 16, 100) - max(column - 16, 0))
    assert (crop == 7).sum() == inside
    assert crop[16, 16] == 7


def test_a_slice_smaller_than_a_crop() -> None:
    crop = cut_crop(np.full((4, 6), 7, np.int16), 2, 3)
    assert (crop == 7).sum() == 24
    assert (crop[13:17, 14:20] == 7).all()

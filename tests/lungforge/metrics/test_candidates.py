"""Boxes of slices become candidates, and nodules of slices nodules of a scan: by hand."""

from typing import Any

import numpy as np
import pytest

from lungforge.ct.io.detection_tables import ScoredCandidate
from lungforge.ct.io.luna16_tables import Annotation
from lungforge.metrics.candidates import Plane, join_nodules, merge_boxes
from tests.factories import nodule_at


def _plane(z_mm: float, *boxes: tuple[float, ...], spacing: tuple[float, float] = (1.0, 1.0)) -> Plane:
    """A slice with boxes: left, top, width, height, score."""
    values = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    return Plane(z_mm, spacing, values[:, :4], values[:, 4], ())


def _merged(*planes: Plane) -> list[ScoredCandidate]:
    return merge_boxes("a", planes)


def test_a_box_of_one_slice_is_a_candidate_at_its_centre_in_mm() -> None:
    """From 10 to 14 px the middle is between columns 11 and 12: 11.5 px from the centre of column 0."""
    plane = _plane(-7.5, (10, 20, 4, 6, 0.5), spacing=(0.5, 2.0))
    assert _merged(plane) == [ScoredCandidate("a", 23.0, 11.25, -7.5, 0.5)]


def test_boxes_in_neighbouring_slices_are_one_candidate_at_their_weighted_mean() -> None:
    planes = [_plane(0, (10, 10, 4, 4, 0.2)), _plane(2, (10, 10, 4, 4, 0.6)), _plane(4, (11, 10, 4, 4, 0.2))]
    (candidate,) = _merged(*planes)
    assert candidate.point_mm == pytest.approx((11.7, 11.5, 2.0))
    assert candidate.probability == 0.6


def test_an_empty_slice_ends_a_candidate() -> None:
    box = (10, 10, 4, 4, 0.5)
    assert [each.z_mm for each in _merged(_plane(0, box), _plane(1), _plane(2, box))] == [0.0, 2.0]


@pytest.mark.parametrize(("shift", "count"), [(2, 1), (2.1, 2)])
def test_the_centre_of_each_box_lies_in_the_other(shift: float, count: int) -> None:
    """Boxes of 4 px: the centre of one is on the edge of the other at a shift of 2."""
    assert len(_merged(_plane(0, (10, 10, 4, 4, 0.5)), _plane(1, (10 + shift, 10, 4, 4, 0.5)))) == count


def test_a_large_box_does_not_take_a_small_one_at_its_edge() -> None:
    """The centre of the small box is in the large one, but not the other way round."""
    assert len(_merged(_plane(0, (0, 0, 40, 40, 0.9)), _plane(1, (2, 2, 4, 4, 0.5)))) == 2


def test_of_several_boxes_the_one_that_overlaps_most_goes_on() -> None:
    start, near, far = (10, 10, 4, 4, 0.9), (10, 11, 4, 4, 0.3), (10, 8, 4, 4, 0.8)
    first, second = _merged(_plane(0, start), _plane(1, far, near))
    assert (first.z_mm, first.probability) == (pytest.approx(0.25), 0.9)
    assert (second.y_mm, second.z_mm, second.probability) == (9.5, 1.0, 0.8)


def test_a_box_is_of_one_candidate_and_the_higher_score_chooses() -> None:
    """Both boxes of the middle slice could continue the one above; the surer takes it."""
    planes = [_plane(0, (10, 10, 4, 4, 0.5)), _plane(1, (9, 10, 4, 4, 0.6), (11, 10, 4, 4, 0.7))]
    first, second = _merged(*planes)
    assert first.probability == 0.7
    assert first.z_mm == pytest.approx(0.7 / 1.2)
    assert (second.probability, second.z_mm) == (0.6, 1.0)


@pytest.mark.parametrize("spacing", [1.0, 0.1, 0.7, 3.281248])
def test_a_centre_on_the_edge_is_inside_whatever_the_pixel_size(spacing: float) -> None:
    """The centre of the upper box, at y = 88, is on the lower edge of the box below, which is 85 to 88."""
    square = (spacing, spacing)
    below, above = (90, 85, 4, 3, 0.5), (90, 85, 4, 6, 0.5)
    assert len(_merged(_plane(0, below, spacing=square), _plane(1, above, spacing=square))) == 1


def test_a_candidate_follows_a_vessel_that_drifts() -> None:
    planes = [_plane(float(index), (10.0 + index, 10, 4, 4, 0.5)) for index in range(6)]
    (candidate,) = _merged(*planes)
    assert candidate.point_mm == pytest.approx((14.0, 11.5, 2.5))


def _with(z_mm: float, *nodules: dict[str, float], spacing: tuple[float, float] = (1.0, 1.0)) -> Plane:
    empty: Any = np.zeros((0, 4))
    return Plane(z_mm, spacing, empty, np.zeros(0), nodules)


def test_entries_with_one_centre_and_diameter_are_one_nodule_in_the_middle_of_its_slices() -> None:
    nodule, other = nodule_at(10, 20, 3, 6), nodule_at(10, 20, 2, 4)
    planes = [
        _with(0, spacing=(0.5, 2.0)),
        _with(2, nodule, spacing=(0.5, 2.0)),
        _with(4, nodule, other, spacing=(0.5, 2.0)),
        _with(6, nodule, spacing=(0.5, 2.0)),
        _with(8, spacing=(0.5, 2.0)),
    ]
    assert join_nodules("a", planes) == [
        Annotation("a", 20, 10, 4, 6),
        Annotation("a", 20, 10, 4, 4),
    ]


def test_a_nodule_that_the_stack_cuts_is_a_radius_away_from_its_end() -> None:
    """Diameter 10, slices 2 mm apart: it ends between 4 and 6, at 5 on average, so its centre is at 0."""
    nodule = nodule_at(10, 20, 10, 10)
    stack = [_with(0, nodule), _with(2, nodule), _with(4, nodule), _with(6), _with(8)]
    assert [each.z_mm for each in join_nodules("a", stack)] == [0.0]
    assert [each.z_mm for each in join_nodules("a", stack[::-1])] == [0.0]
    downwards = [_with(-plane.z_mm, *plane.nodules) for plane in stack]
    assert [each.z_mm for each in join_nodules("a", downwards)] == [0.0]


def test_a_nodule_that_the_stack_cuts_at_both_ends_is_in_its_middle() -> None:
    nodule = nodule_at(10, 20, 30, 30)
    assert [each.z_mm for each in join_nodules("a", [_with(z, nodule) for z in (0, 2, 4)])] == [2.0]

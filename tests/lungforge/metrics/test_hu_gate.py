"""The ranges of class medians, against sorting and counting by hand."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.metrics.hu_gate import LEAST_PIXELS, LEAST_SLICES, GateCounts, HuRanges


def _slices(
    values: NDArray[np.int16], *, pixels: int = LEAST_PIXELS
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """For each value a slice of 8 x 8 px: some pixels of body with that value, and background at -1000."""
    hu = np.full((len(values), 64), -1000, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[:, :pixels] = classes.BODY
    hu[:, :pixels] = values[:, None]
    return hu.reshape(-1, 8, 8), labels.reshape(-1, 8, 8)


def test_the_range_is_from_the_lowest_to_the_highest_half_percent() -> None:
    values = np.random.default_rng(0).permutation(np.arange(-100, 101, dtype=np.int16))
    ranges = HuRanges.measure(*_slices(values))
    # Of 201 medians -100, -99, ..., 100, the quantile q lies at -100 + 200 q.
    assert ranges == HuRanges(((-1000.0, -1000.0), (-99.0, 99.0), None, None, None, None))
    assert HuRanges.from_json(json.loads(json.dumps(ranges.to_json()))) == ranges


def test_one_odd_training_slice_does_not_widen_the_range() -> None:
    values = np.zeros(256, np.int16)
    values[7] = 400
    ranges = HuRanges.measure(*_slices(values))
    assert ranges is not None
    assert ranges.ranges[classes.BODY] == (0.0, 0.0)


def test_a_class_has_a_range_if_enough_slices_show_enough_of_it() -> None:
    values = np.full(LEAST_SLICES, 30, np.int16)
    body = [
        HuRanges.measure(*_slices(some, pixels=pixels)).ranges[classes.BODY]  # type: ignore[union-attr]
        for some, pixels in ((values, LEAST_PIXELS), (values, LEAST_PIXELS - 1))
    ]
    assert body == [(30.0, 30.0), None]
    assert HuRanges.measure(*_slices(values[1:])) is None


@pytest.mark.parametrize(
    ("value", "pixels", "outside"),
    [
        (-50, 20, False),
        (60, 20, False),
        (-51, 20, True),
        (61, 64, True),
        (61, 19, False),  # too few pixels to judge
        (900, 20, True),
    ],
)
def test_a_slice_is_outside_where_a_median_is(value: int, pixels: int, outside: bool) -> None:
    ranges = HuRanges(((-1000.0, -950.0), (-50.0, 60.0), None, None, None, None))
    hu, labels = _slices(np.array([0, value], np.int16), pixels=pixels)
    assert ranges.outside(hu, labels).tolist() == [False, outside]


def test_any_class_puts_a_slice_outside_and_one_without_a_range_does_not() -> None:
    hu, labels = _slices(np.array([0], np.int16))
    for background, expected in (((-999.0, 0.0), True), ((-1000.0, 0.0), False), (None, False)):
        ranges = HuRanges((background, (-1.0, 1.0), None, None, None, None))
        assert ranges.outside(hu, labels).tolist() == [expected]


def test_median_and_not_mean_decides() -> None:
    hu, labels = _slices(np.array([0], np.int16))
    hu[0, 0, 0] = 400  # one of 20 pixels of body
    assert not HuRanges((None, (0.0, 0.0), None, None, None, None)).outside(hu, labels).any()


def test_counts_of_rows_and_of_parts() -> None:
    one = GateCounts.of_rows(np.array([0, 1, 4, 4], np.int8), np.array([False, False, False, True]))
    assert one == GateCounts(resampled=3, retries=9, outside=1)
    assert one + GateCounts(1, 2, 0) == GateCounts(4, 11, 1)
    assert GateCounts.of_rows(np.zeros(0, np.int8), np.zeros(0, bool)) == GateCounts()


@pytest.mark.parametrize(
    ("details", "counts"),
    [
        ({"hu_gate": {"resampled": 3, "retries": 9, "outside": 1}}, GateCounts(3, 9, 1)),
        ({"images": 4}, None),
        ({"hu_gate": {"resampled": 3, "retries": 9}}, None),
        ({"hu_gate": {"resampled": 3, "retries": 9, "outside": "<b>"}}, None),
        ({"hu_gate": {"resampled": 3, "retries": 9, "outside": -1}}, None),
        ({"hu_gate": [3, 9, 1]}, None),
    ],
)
def test_what_a_manifest_says_is_not_believed_blindly(details: dict[str, Any], counts: GateCounts) -> None:
    assert GateCounts.of_details(details) == counts

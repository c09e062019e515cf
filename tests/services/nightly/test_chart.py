"""Where in a chart things are: a wrong place is a wrong value."""

import dataclasses

import pytest

from services.nightly.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart_of, days_of
from services.nightly.drift import METRICS

_, _, KID, FRECHET, NEAR_DUPLICATES, _ = METRICS


def plot(metric, nights, most=60):
    return chart_of(metric, days_of(nights, most), nights)


def test_a_day_without_a_night_is_a_day_all_the_same(make_night):
    nights = [make_night(day) for day in (1, 2, 5)]
    days = days_of(nights, 60)
    assert [day.date.day for day in days] == [1, 2, 3, 4, 5]
    assert [day.status for day in days] == ["done", "done", "missed", "missed", "done"]
    assert [day.date.day for day in days_of(nights, 2)] == [4, 5]


def test_values_are_plotted_between_their_grid_lines(make_night):
    nights = [make_night(day, value) for day, value in enumerate([10.0, 14.0, 12.0], 1)]
    chart = plot(FRECHET, nights)
    assert [text for _, text in chart.ticks] == ["10", "11", "12", "13", "14"]
    assert [y for y, _ in chart.ticks] == [172.0, 132.0, 92.0, 52.0, 12.0]
    assert (chart.ticks[0][0], chart.ticks[-1][0]) == (HEIGHT - BOTTOM, TOP)
    assert [mark.y for mark in chart.marks] == [172.0, 12.0, 92.0]
    width = (WIDTH - LEFT - RIGHT) / 3
    assert [mark.x for mark in chart.marks] == [round(LEFT + width * (k + 0.5), 1) for k in range(3)]
    assert len(chart.lines) == 1


def test_a_line_does_not_cross_what_was_not_measured(make_night):
    failed = make_night(4, status="failed")
    nights = [make_night(1), make_night(2), failed, make_night(5), make_night(6), make_night(8)]
    chart = plot(FRECHET, nights)
    assert [mark.status for mark in chart.marks] == [
        *("done", "done", "missed", "failed", "done", "done", "missed", "done"),
    ]
    assert [line.count(",") for line in chart.lines] == [2, 2]
    assert [mark.y is None for mark in chart.marks] == [False, False, True, True, False, False, True, False]


def test_the_band_of_a_night_is_that_of_the_nights_before(make_night):
    """Also of those that are not shown any more; and a night is marked where it is above its band."""
    nights = [make_night(day, 10.0, frechet_spread=0.2) for day in range(1, 6)]
    worse = dataclasses.replace(make_night(6, 11.0), status="worse")
    chart = plot(FRECHET, [*nights, worse], most=2)
    assert [text for _, text in chart.ticks] == ["9.0", "9.5", "10.0", "10.5", "11.0"]
    assert [mark.status for mark in chart.marks] == ["done", "worse"]
    bands = [mark.band for mark in chart.marks]
    # From 9.4 to 10.6 around 10, of lines from 9 to 11 over 160 units.
    assert bands == [(44.0, 92.0, 140.0)] * 2
    assert [mark.status for mark in plot(KID, [*nights, worse], most=2).marks] == ["done", "done"]
    assert all(mark.band is None for mark in plot(FRECHET, nights[:4]).marks)
    assert "last band 10 ± 3 × 0.2" in chart.summary


def test_counts_have_whole_lines_and_nothing_is_below_zero(make_night):
    nights = [make_night(day) for day in range(1, 7)]
    assert [text for _, text in plot(NEAR_DUPLICATES, nights).ticks] == ["0", "1"]
    low = [make_night(day, 0.01, frechet_spread=0.1) for day in range(1, 7)]
    assert plot(FRECHET, low).ticks[0][1] == "0.0"
    # The unbiased KID may be.
    kid = plot(KID, [make_night(day, kid=-0.002) for day in range(1, 7)])
    assert kid.ticks[0][1].startswith("\N{MINUS SIGN}0.00")


@pytest.mark.parametrize("values", [[10.0], [0.0], [-3.0], [None], [1e-7, 2e-7], [5.0] * 3, [1e6, 1.0]])
def test_any_history_can_be_plotted(make_night, values):
    chart = plot(FRECHET, [make_night(day, value) for day, value in enumerate(values, 1)])
    assert 2 <= len(chart.ticks) <= 8
    assert all(TOP <= mark.y <= HEIGHT - BOTTOM for mark in chart.marks if mark.y is not None)
    assert len({text for _, text in chart.ticks}) == len(chart.ticks)

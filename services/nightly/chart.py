"""A metric over the nights as a chart: where in it everything is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from services.eval.report.wording import MINUS, significant
from services.nightly.drift import SPREADS, DriftBand, Metric, band_of, value_of
from services.nightly.history import Night

#: Size of a chart in its own units, about a px each, and the margins for labels.
WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 38
#: Steps between the lines across a chart, at most.
_STEPS = 5


@dataclass(frozen=True)
class Day:
    """A date and its night; None when it was missed."""

    date: date
    night: Night | None

    @property
    def status(self) -> str:
        """Done, worse, failed or missed."""
        return "missed" if self.night is None else self.night.status


@dataclass(frozen=True)
class Mark:
    """A day in a chart.

    Attributes:
        status: done, worse where the metric is above its band, failed, missed, or unmeasured where the night
            has no such metric.
        x: Of its middle.
        y: Of its value, if it has one.
        band: Top, mean and bottom of the band that it was judged by, if any.
        label: What it says when pointed at.
    """

    status: str
    x: float
    y: float | None
    band: tuple[float, float, float] | None
    label: str


@dataclass(frozen=True)
class MetricChart:
    """A metric over the days, in units of the chart, y downwards.

    Attributes:
        title: The metric.
        summary: The chart in words.
        marks: A day each.
        day_width: Of a day.
        lines: The runs of neighbouring nights with values, as points of polylines.
        ticks: y and text of the lines across.
        dates: x, text and anchor of the dates below.
    """

    title: str
    summary: str
    marks: tuple[Mark, ...]
    day_width: float
    lines: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    dates: tuple[tuple[float, str, str], ...]


def days_of(nights: Sequence[Night], most: int) -> list[Day]:
    """Every date from the first night to the newest one; of more than ``most``, the last.

    Args:
        nights: At least one, by date.
        most: Days at most.
    """
    there = {night.date: night for night in nights}
    newest = nights[-1].date
    first = max(nights[0].date, newest - timedelta(most - 1))
    dates = [first + timedelta(days) for days in range((newest - first).days + 1)]
    return [Day(each, there.get(each)) for each in dates]


def chart_of(metric: Metric, days: Sequence[Day], nights: Sequence[Night]) -> MetricChart:
    """The chart of a metric.

    Args:
        metric: The metric.
        days: Those that are shown, without a gap.
        nights: All of the history, by date: bands reach back before the days that are shown.
    """
    values = [None if day.night is None else value_of(day.night, metric) for day in days]
    bands = [_band(day, value, metric, nights) for day, value in zip(days, values, strict=True)]
    steps = _steps(values, bands, whole=metric.is_count)
    low, high = steps[0], steps[-1]

    def y_of(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    day_width = (WIDTH - LEFT - RIGHT) / len(days)
    marks = []
    for place, (day, value, band) in enumerate(zip(days, values, bands, strict=True)):
        edges = None
        if band is not None:
            edges = y_of(band.limit), y_of(band.mean), y_of(band.mean - SPREADS * band.spread)
        y = None if value is None else y_of(value)
        label = (
            f"{day.date}: {day.status}"
            if value is None
            else f"{day.date}: {significant(value)}, {day.status}"
        )
        x = round(LEFT + (place + 0.5) * day_width, 1)
        marks.append(Mark(_status(day, value, band), x, y, edges, label))
    places = max(0, -math.floor(math.log10(steps[1] - steps[0])))
    return MetricChart(
        title=metric.title,
        summary=_summary(metric, days, values, bands),
        marks=tuple(marks),
        day_width=round(day_width, 2),
        lines=tuple(_lines(marks)),
        ticks=tuple((y_of(step), f"{step:.{places}f}".replace("-", MINUS)) for step in steps),
        dates=tuple(_dates(marks, days)),
    )


def _status(day: Day, value: float | None, band: DriftBand | None) -> str:
    """How a day is marked."""
    if value is None:
        return day.status if day.status in ("failed", "missed") else "unmeasured"
    return "worse" if band is not None and value > band.limit else "done"


def _band(day: Day, value: float | None, metric: Metric, nights: Sequence[Night]) -> DriftBand | None:
    """The band that a night was judged by."""
    if day.night is None or value is None:
        return None
    before = [night for night in nights if night.date < day.date]
    return band_of(before, day.night.settings, metric)


def _steps(values: Sequence[float | None], bands: Sequence[DriftBand | None], *, whole: bool) -> list[float]:
    """Round values, evenly apart, around all values and bands; two at least."""
    measured = [value for value in values if value is not None] or [0.0]
    edges = [band.mean + sign * SPREADS * band.spread for band in bands if band for sign in (-1, 1)]
    low, high = min([*measured, *edges]), max([*measured, *edges])
    if min(measured) >= 0:
        low = max(low, 0.0)  # a band may reach below zero where no distance and no count does
    if low == high:
        high = low + (0.1 * abs(low) or 1.0)
    power = 10.0 ** math.floor(math.log10((high - low) / _STEPS))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= _STEPS)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [multiple * step for multiple in range(first, max(last, first + 1) + 1)]


def _lines(marks: Sequence[Mark]) -> list[str]:
    """Points of neighbouring nights with values: a line does not cross a night that was missed or failed."""
    runs: list[list[str]] = [[]]
    for mark in marks:
        if mark.y is None:
            runs.append([])
        else:
            runs[-1].append(f"{mark.x},{mark.y}")
    return [" ".join(run) for run in runs if len(run) > 1]


def _dates(marks: Sequence[Mark], days: Sequence[Day]) -> list[tuple[float, str, str]]:
    """The first and the last date, at the ends of the axis; a single one in its middle."""
    if len(days) == 1:
        return [(marks[0].x, str(days[0].date), "middle")]
    return [(LEFT, str(days[0].date), "start"), (WIDTH - RIGHT, str(days[-1].date), "end")]


def _summary(
    metric: Metric,
    days: Sequence[Day],
    values: Sequence[float | None],
    bands: Sequence[DriftBand | None],
) -> str:
    """The chart in words, for readers who do not see it; the table has every value."""
    measured = [value for value in values if value is not None]
    if not measured:
        return f"{metric.title}: not measured from {days[0].date} to {days[-1].date}."
    words = (
        f"{metric.title} of {len(measured)} nights from {days[0].date} to {days[-1].date}: "
        f"from {significant(min(measured))} to {significant(max(measured))}, last {significant(measured[-1])}"
    )
    band = next((band for band in reversed(bands) if band), None)
    if band is None:
        return f"{words}; too few nights for a band."
    return f"{words}; last band {significant(band.mean)} ± {SPREADS:g} × {significant(band.spread)}."

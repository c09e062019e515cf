"""The figures of the downstream tasks: where in them everything is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.eval.downstream.results import (
    REFERENCES,
    ArmResult,
    DiameterBand,
    Difference,
    MeasureResult,
    PictureTestSet,
    Reference,
    Task,
    TaskResult,
    measure_title,
)
from services.eval.report.wording import MINUS, signed

NO_BREAK: Final = "\N{NO-BREAK SPACE}"
#: Steps between the ticks of an axis, at most.
_STEPS: Final = 5
#: What is kept free at either end of an axis, in percent of its length: room for the labels of the ticks.
_INSET: Final = 7.0
#: The shortest reach of the axis of differences, so that there is an axis where nothing differs.
_LEAST_REACH: Final = 0.01
#: Size of a plot of curves in its units, about a px each, and the margins for labels.
WIDTH, HEIGHT = 320, 306
LEFT, RIGHT, TOP, BOTTOM = 44, 16, 8, 38
#: Lines in a plot beside that of the real slices: so many can be distinguished by their dashes.
_LINES: Final = 5
#: The axes of a task's curves: x, then y.
_AXES: Final[dict[Task, tuple[str, str]]] = {
    "classification": (f"false positive rate (1 {MINUS} specificity)", "true positive rate (sensitivity)"),
    "localisation": ("recall", "precision"),
}
#: The measure that is the area under a curve.
_AREA: Final[dict[Task, str]] = {"classification": "auroc", "localisation": "ap50_nodule"}


@dataclass(frozen=True)
class ForestRow:
    """A difference to a reference, in percent of the axis from the left.

    Attributes:
        arm: The arm.
        low: Lower end of the interval; None, as the other two, where there is none.
        middle: The difference.
        high: Upper end.
        words: The difference and its interval.
        judgement: What the interval says.
    """

    arm: str
    low: float | None
    middle: float | None
    high: float | None
    words: str
    judgement: str


@dataclass(frozen=True)
class ForestPlot:
    """Differences to a reference, on an axis that is the same for all references of a task.

    Attributes:
        zero: Where no difference is, in percent of the axis from the left.
        ticks: Place and label of each tick.
        groups: The rows under their titles.
    """

    zero: float
    ticks: tuple[tuple[float, str], ...]
    groups: tuple[tuple[str, tuple[ForestRow, ...]], ...]


@dataclass(frozen=True)
class CurveLine:
    """A curve of a plot.

    Attributes:
        arm: The arm.
        dashes: Index of its pattern of dashes; 0 is unbroken, and of the real slices.
        points: As a polyline has them; empty where the networks predicted nothing.
        area: The area under such a curve, mean over the networks, in words.
    """

    arm: str
    dashes: int
    points: str
    area: str


@dataclass(frozen=True)
class CurvePlot:
    """The curves of a group of arms beside that of the real slices.

    Attributes:
        title: The group.
        area: What the area under a curve is called.
        x_label: What is measured to the right.
        y_label: What is measured upwards.
        lines: The curves, that of the real slices first.
        left_out: Arms for which there was no room.
        summary: The plot in words.
    """

    title: str
    area: str
    x_label: str
    y_label: str
    lines: tuple[CurveLine, ...]
    left_out: tuple[str, ...]
    summary: str


def groups_of(arms: Sequence[ArmResult], names: Sequence[str]) -> list[tuple[str, list[ArmResult]]]:
    """The arms but the first, the real slices: the controls, then each set of synthetic slices.

    Args:
        arms: Of a task.
        names: Of the sets.
    """
    groups = [("Controls", [arm for arm in arms[1:] if arm.synthetic is None])]
    for index, name in enumerate(names):
        groups.append((f"“{name}”", [arm for arm in arms if arm.synthetic == index]))
    return groups


def forest(result: TaskResult, names: Sequence[str], reference: Reference) -> ForestPlot:
    """The differences of a task's headline measure to a reference.

    Args:
        result: Of the task.
        names: Of the sets.
        reference: Which.
    """
    ends = [end for _, one in _differences(result) if one.interval is not None for end in one.interval]
    ticks = round_ticks(min([-_LEAST_REACH, *ends]), max([_LEAST_REACH, *ends]))

    def place(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(_INSET + (100 - 2 * _INSET) * share, 2)

    def row(arm: ArmResult, one: Difference) -> ForestRow:
        low, middle, high = (None, None, None) if one.interval is None else map(place, one.interval)
        return ForestRow(arm.name, low, middle, high, interval_words(one), judgement(one))

    rows = {arm.key: row(arm, one) for arm, one in _differences(result) if one.reference == reference}
    groups = [
        (title, tuple(rows[arm.key] for arm in arms if arm.key in rows))
        for title, arms in groups_of(result.arms, names)
    ]
    return ForestPlot(
        zero=place(0.0),
        ticks=tuple((place(tick), tick_words(tick, ticks)) for tick in ticks),
        groups=tuple((title, of_group) for title, of_group in groups if of_group),
    )


def references(result: TaskResult) -> list[Reference]:
    """What arms of a task are compared with; nothing where that is not measured."""
    compared = {one.reference for _, one in _differences(result)}
    return [reference for reference in REFERENCES if reference in compared]


def round_ticks(low: float, high: float) -> list[float]:
    """Round values, evenly apart, the first at most ``low`` and the last at least ``high``."""
    least = (high - low) / _STEPS
    power = 10.0 ** math.floor(math.log10(least))
    # Rounding outwards may add a step at each end, so that a wider step is tried when there are too many.
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(round(low / step, 6)), math.ceil(round(high / step, 6))
        if last - first <= _STEPS:
            break
    return [float(f"{multiple * step:.10g}") for multiple in range(first, last + 1)]


def tick_words(tick: float, ticks: Sequence[float]) -> str:
    """The label of a tick, with as many decimals as its neighbours are apart."""
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:.{places}f}".replace("-", MINUS) if tick <= 0 else f"+{tick:.{places}f}"


def interval_words(one: Difference) -> str:
    """A difference with its interval."""
    if one.difference is None:
        return "–"
    if one.interval is None:
        return signed(one.difference)
    low, middle, high = one.interval
    return f"{signed(middle)} ({signed(low)} to {signed(high)})"


def judgement(one: Difference) -> str:
    """What an interval says, by the verdict's rule."""
    words = {None: "cannot be judged", 1: "better", -1: "worse", 0: "no difference shown"}
    return words[one.direction]


def spread_words(result: MeasureResult) -> str:
    """A measure's mean over the networks, with its spread where there are several."""
    if result.mean is None:
        return "–"
    spread = "" if result.spread is None else f"{NO_BREAK}±{NO_BREAK}{result.spread:.3f}"
    return f"{result.mean:.3f}{spread}"


def curves(result: TaskResult, names: Sequence[str]) -> list[CurvePlot]:
    """The curves of a task: ROC curves of classification, precision over recall of localisation.

    Args:
        result: Of the task.
        names: Of the sets.
    """
    x_label, y_label = _AXES[result.task]
    area = _AREA[result.task]
    plots = []
    for title, arms in groups_of(result.arms, names):
        # The arms of a set are in the order of the ratios, the set alone last: the smaller ratios give way.
        shown = [result.arms[0], *arms[-_LINES:]]
        lines = tuple(
            CurveLine(arm.name, index, polyline(arm.curve.x, arm.curve.y), spread_words(arm.measure(area)))
            for index, arm in enumerate(shown)
        )
        areas = ", ".join(f"{line.arm}: {line.area}" for line in lines)
        plots.append(
            CurvePlot(
                title=title,
                area=measure_title(area),
                x_label=x_label,
                y_label=y_label,
                lines=lines,
                left_out=tuple(arm.name for arm in arms[:-_LINES]),
                summary=f"{y_label} over {x_label}, {title}; {measure_title(area)} of {areas}",
            )
        )
    return plots


def polyline(x: Sequence[float | None], y: Sequence[float | None]) -> str:
    """The points of a curve in a plot; values from 0 to 1, those that are undefined are left out."""
    return " ".join(
        f"{x_of(right)},{y_of(up)}"
        for right, up in zip(x, y, strict=True)
        if right is not None and up is not None
    )


def x_of(value: float) -> float:
    """Where a value from 0 to 1 is, from the left of a plot of curves."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * value, 1)


def y_of(value: float) -> float:
    """Where a value from 0 to 1 is, from the top of a plot of curves."""
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value, 1)


def measures_of(result: TaskResult) -> list[str]:
    """The measures of a task, but for those of single bands of diameters."""
    banded = {band.measure for band in bands(result)}
    return [each.measure for each in result.arms[0].measures if each.measure not in banded]


def fewest_draws(result: TaskResult) -> int:
    """Draws of the bootstrap that count for the headline measure, in the arm where the fewest do."""
    return min((one.draws for _, one in _differences(result)), default=result.draws)


def bands(result: TaskResult) -> tuple[DiameterBand, ...]:
    """The bands of nodule diameters that localisation is measured by."""
    return result.test.bands if isinstance(result.test, PictureTestSet) else ()


def steps_words(arm: ArmResult) -> str:
    """The steps of the checkpoints that an arm is tested with: the least and the most."""
    least, most = min(arm.chosen_steps), max(arm.chosen_steps)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _differences(result: TaskResult) -> list[tuple[ArmResult, Difference]]:
    """The arms with their differences in the headline measure, each reference by itself."""
    return [(arm, one) for arm in result.arms for one in arm.measure(result.headline).differences]

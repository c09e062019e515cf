"""The figures of the downstream tasks: where in them everything is, computed from the document's numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.eval.downstream.results import (
    BANDS_MM,
    MINUS,
    band_key,
    band_measure,
    band_words,
    direction_of,
    name_of,
)

NO_BREAK: Final = "\N{NO-BREAK SPACE}"
#: Steps between the ticks of an axis, at most.
_STEPS: Final = 5
#: What is kept free at either end of an axis, in percent of its length: room for the ticks' numbers.
_INSET: Final = 7.0
#: The shortest reach of the axis of differences, so that there is one where nothing differs.
_LEAST_REACH: Final = 0.01
#: Size of a picture of curves in its own units, about a px each, and what of it is kept for labels.
WIDTH, HEIGHT = 320, 306
LEFT, RIGHT, TOP, BOTTOM = 44, 16, 8, 38
#: Lines in a picture beside that of the real slices: so many can be told apart by their dashes.
_LINES: Final = 5
#: The axes of a task's curves: across, then upwards; as the document names them, and for people.
_AXES: Final = {
    "classification": (
        ("false_positive_rate", "false positive rate (1 \N{MINUS SIGN} specificity)"),
        ("true_positive_rate", "true positive rate (sensitivity)"),
    ),
    "localisation": (("recall", "recall"), ("precision", "precision")),
}
#: What an arm is called by its curve's area.
_AREA: Final = {"classification": "auroc", "localisation": "ap50_nodule"}


@dataclass(frozen=True)
class Row:
    """A difference to the real slices, in percent of the axis from the left.

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
class Forest:
    """Differences to the real slices, on one axis.

    Attributes:
        zero: Where no difference is, in percent of the axis from the left.
        ticks: Place and number of each tick.
        groups: The rows under their titles.
    """

    zero: float
    ticks: tuple[tuple[float, str], ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        arm: The arm.
        dashes: Number of its pattern of dashes; 0 is unbroken, and of the real slices.
        points: As a polyline has them; empty where nothing was found.
        area: The area under such a curve, mean over the networks, in words.
    """

    arm: str
    dashes: int
    points: str
    area: str


@dataclass(frozen=True)
class Curves:
    """The curves of a group of arms beside that of the real slices.

    Attributes:
        title: The group.
        area: What the area under a curve is called.
        across: What is measured to the right.
        upwards: What is measured upwards.
        lines: The curves, that of the real slices first.
        left_out: Arms for which there was no room.
        summary: The picture in words.
    """

    title: str
    area: str
    across: str
    upwards: str
    lines: tuple[Line, ...]
    left_out: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Band:
    """A band of nodule diameters.

    Attributes:
        measure: The measure of its nodules, as the document names it.
        title: The band.
        nodules: In the test set.
    """

    measure: str
    title: str
    nodules: int


def groups_of(arms: Sequence[dict[str, Any]], names: Sequence[str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The arms but the first, the real slices: the controls, then each set of synthetic slices.

    Args:
        arms: Of a task, as in the document.
        names: Of the sets.
    """
    groups = [("Controls", [arm for arm in arms[1:] if not arm["key"].startswith("set")])]
    for number, name in enumerate(names):
        groups.append((f"“{name}”", [arm for arm in arms if arm["key"].startswith(f"set{number}-")]))
    return groups


def forest(table: dict[str, Any], names: Sequence[str]) -> Forest:
    """The differences of a task's headline measure.

    Args:
        table: Of the task, as in the document.
        names: Of the sets.
    """
    measure = table["headline"]
    found = [arm["difference_to_real"][measure] for arm in table["arms"][1:]]
    ends = [one[end] for one in found if one["low"] is not None for end in ("low", "difference", "high")]
    ticks = round_ticks(min([-_LEAST_REACH, *ends]), max([_LEAST_REACH, *ends]))

    def place(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(_INSET + (100 - 2 * _INSET) * share, 2)

    def row(arm: dict[str, Any]) -> Row:
        one = arm["difference_to_real"][measure]
        judged = one["low"] is not None
        low, middle, high = [place(one[end]) if judged else None for end in ("low", "difference", "high")]
        return Row(arm["name"], low, middle, high, interval_words(one), judgement(one))

    return Forest(
        zero=place(0.0),
        ticks=tuple((place(tick), tick_words(tick, ticks)) for tick in ticks),
        groups=tuple((title, tuple(map(row, arms))) for title, arms in groups_of(table["arms"], names)),
    )


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers, evenly apart, the first at most ``low`` and the last at least ``high``."""
    least = (high - low) / _STEPS
    power = 10.0 ** math.floor(math.log10(least))
    # Rounding outwards may add a step at each end, so that a wider step is tried when there are too many.
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(round(low / step, 6)), math.ceil(round(high / step, 6))
        if last - first <= _STEPS:
            break
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def tick_words(tick: float, ticks: Sequence[float]) -> str:
    """The number at a tick, with as many decimals as its neighbours are apart."""
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:.{places}f}".replace("-", MINUS) if tick <= 0 else f"+{tick:.{places}f}"


def interval_words(found: dict[str, Any]) -> str:
    """A difference with its interval."""
    if found["difference"] is None:
        return "–"
    if found["low"] is None:
        return _signed(found["difference"])
    return f"{_signed(found['difference'])} ({_signed(found['low'])} to {_signed(found['high'])})"


def judgement(found: dict[str, Any]) -> str:
    """What an interval says, in the words of the verdict's rule."""
    words = {None: "cannot be judged", 1: "better than real", -1: "worse than real", 0: "no difference shown"}
    return words[direction_of(found)]


def spread_words(value: dict[str, Any]) -> str:
    """A measure's mean over the networks, with its spread where there are several."""
    if value["mean"] is None:
        return "–"
    spread = "" if value["spread"] is None else f"{NO_BREAK}±{NO_BREAK}{value['spread']:.3f}"
    return f"{value['mean']:.3f}{spread}"


def curves(table: dict[str, Any], names: Sequence[str]) -> list[Curves]:
    """The curves of a task: ROC curves of classification, precision over recall of localisation.

    Args:
        table: Of the task, as in the document.
        names: Of the sets.
    """
    (across, across_words), (upwards, upwards_words) = _AXES[table["task"]]
    area = _AREA[table["task"]]
    pictures = []
    for title, arms in groups_of(table["arms"], names):
        # The arms of a set are in the order of the ratios, the set alone last: the smaller ratios give way.
        shown = [table["arms"][0], *arms[-_LINES:]]
        lines = tuple(
            Line(
                arm["name"],
                number,
                polyline(arm["curve"][across], arm["curve"][upwards]),
                spread_words(arm["values"][area]),
            )
            for number, arm in enumerate(shown)
        )
        told = ", ".join(f"{line.arm}: {line.area}" for line in lines)
        pictures.append(
            Curves(
                title=title,
                area=name_of(area),
                across=across_words,
                upwards=upwards_words,
                lines=lines,
                left_out=tuple(arm["name"] for arm in arms[:-_LINES]),
                summary=f"{upwards_words} over {across_words}, {title}; {name_of(area)} of {told}",
            )
        )
    return pictures


def polyline(across: Sequence[float | None], upwards: Sequence[float | None]) -> str:
    """The points of a curve in a picture; values from 0 to 1, those that are undefined are left out."""
    return " ".join(
        f"{x_of(x)},{y_of(y)}"
        for x, y in zip(across, upwards, strict=True)
        if x is not None and y is not None
    )


def x_of(value: float) -> float:
    """Where a value from 0 to 1 is, from the left of a picture of curves."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * value, 1)


def y_of(value: float) -> float:
    """Where a value from 0 to 1 is, from the top of a picture of curves."""
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value, 1)


def measures_of(table: dict[str, Any]) -> list[str]:
    """The measures of a task, but for those of single bands of diameters."""
    banded = {band.measure for band in bands(table)} if table["task"] == "localisation" else set()
    return [measure for measure in table["arms"][0]["values"] if measure not in banded]


def fewest_draws(table: dict[str, Any]) -> int:
    """Draws of the bootstrap that count for the headline measure, in the arm where the fewest do."""
    return min(arm["difference_to_real"][table["headline"]]["draws"] for arm in table["arms"][1:])


def bands(table: dict[str, Any]) -> list[Band]:
    """The bands of nodule diameters that localisation is measured by."""
    return [
        Band(
            measure=band_measure(*band),
            title=band_words(*band),
            nodules=table["test"]["nodules_by_band_mm"][band_key(*band)],
        )
        for band in BANDS_MM
    ]


def _signed(value: float) -> str:
    """A difference to three decimals; what rounds to none at all is not negative."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", MINUS)

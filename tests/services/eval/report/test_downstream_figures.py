"""Where in the figures things are: a wrong place is a wrong value."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.eval.downstream.results import (
    DiameterBand,
    Difference,
    MeasureResult,
    PictureTestSet,
    Reference,
    TaskResult,
)
from services.eval.report.downstream_figures import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    bands,
    curves,
    fewest_draws,
    forest,
    groups_of,
    interval_words,
    judgement,
    measures_of,
    polyline,
    references,
    round_ticks,
    spread_words,
    steps_words,
    tick_words,
)
from tests.services.reports import arm_result, task_result


def _difference(
    difference: float | None,
    low: float | None,
    high: float | None,
    draws: int = 1000,
    reference: Reference = "classic",
) -> Difference:
    return Difference(reference, difference, low, high, draws)


def _table(**differences: Difference) -> TaskResult:
    keys = {
        "classic": ("classic", None),
        "set0_1x": ("set0-1x", 0),
        "set0_only": ("set0-only", 0),
        "set1_1x": ("set1-1x", 1),
    }
    return task_result(
        *(arm_result(keys[name][0], one, synthetic=keys[name][1]) for name, one in differences.items())
    )


def test_intervals_lie_where_their_values_are() -> None:
    plot = forest(
        _table(
            classic=_difference(0.1, 0.05, 0.2),
            set0_1x=_difference(-0.1, -0.2, 0.0),
            set1_1x=_difference(0.0, -0.05, 0.05),
        ),
        ["sdm", "gaugan"],
        "classic",
    )
    # From -0.2 at 7 % to +0.2 at 93 %, as far to either side.
    assert plot.ticks == ((7.0, "−0.2"), (28.5, "−0.1"), (50.0, "0.0"), (71.5, "+0.1"), (93.0, "+0.2"))
    assert plot.zero == 50.0
    assert [title for title, _ in plot.groups] == ["Controls", "“sdm”", "“gaugan”"]
    ((classic,), (sdm,), (gaugan,)) = [rows for _, rows in plot.groups]
    assert (classic.low, classic.middle, classic.high) == (60.75, 71.5, 93.0)
    assert (sdm.low, sdm.middle, sdm.high) == (7.0, 28.5, 50.0)
    assert (gaugan.low, gaugan.middle, gaugan.high) == (39.25, 50.0, 60.75)
    assert classic.words == "+0.100 (+0.050 to +0.200)"
    assert sdm.words == "−0.100 (−0.200 to +0.000)"
    assert [row.judgement for row in (classic, sdm, gaugan)] == [
        "better",
        "no difference shown",
        "no difference shown",
    ]


def test_zero_is_in_the_picture_when_all_differences_are_of_one_sign() -> None:
    plot = forest(_table(set0_1x=_difference(-0.3, -0.4, -0.25)), ["sdm"], "classic")
    assert plot.ticks[0][1] == "−0.4"
    assert plot.ticks[-1][1] == "+0.1"
    assert plot.zero == pytest.approx(7 + 86 * 4 / 5)
    assert plot.groups == ((plot.groups[0][0], plot.groups[0][1]),)
    assert plot.groups[0][0] == "“sdm”"
    assert plot.groups[0][1][0].judgement == "worse"


def test_each_reference_has_a_figure_of_the_arms_compared_with_it_on_one_axis() -> None:
    table = task_result(
        arm_result("classic", _difference(0.4, 0.3, 0.5, reference="real")),
        arm_result(
            "set0-1x",
            _difference(0.3, 0.2, 0.4, reference="real"),
            _difference(-0.1, -0.2, 0.1, reference="classic"),
            synthetic=0,
        ),
    )
    assert references(table) == ["real", "classic"]
    real, classic = (forest(table, ["sdm"], reference) for reference in references(table))
    assert real.ticks == classic.ticks
    assert [[row.arm for row in rows] for _, rows in real.groups] == [
        ["name of classic"],
        ["name of set0-1x"],
    ]
    assert [[row.words for row in rows] for _, rows in classic.groups] == [["−0.100 (−0.200 to +0.100)"]]
    assert references(task_result(arm_result("classic"), not_measured="a reason")) == []


def test_the_chosen_steps_are_told_by_their_ends() -> None:
    arm = arm_result("classic")
    assert steps_words(arm) == "200 to 1,400"
    assert steps_words(dataclasses.replace(arm, chosen_steps=(8, 8))) == "8"


def test_without_an_interval_nothing_is_plotted_and_nothing_judged() -> None:
    plot = forest(
        _table(classic=_difference(9.0, None, None, 0), set0_1x=_difference(None, None, None, 0)),
        ["sdm"],
        "classic",
    )
    for _, (row,) in plot.groups:
        assert (row.low, row.middle, row.high) == (None, None, None)
        assert row.judgement == "cannot be judged"
    # Nor does it stretch the axis.
    assert (plot.ticks[0][1], plot.ticks[-1][1]) == ("−0.010", "+0.010")
    assert [rows[0].words for _, rows in plot.groups] == ["+9.000", "–"]


@given(st.floats(-1, 0), st.floats(0.01, 1))
def test_ticks_are_round_values_around_what_is_plotted(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    step = ticks[1] - ticks[0]
    assert float(f"{step:.0e}") == pytest.approx(step)
    assert f"{step:.0e}"[0] in "125"
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= high - 1e-6 * step
    assert all(abs(tick / step - round(tick / step)) < 1e-6 for tick in ticks)
    assert 0.0 in ticks
    assert len({tick_words(tick, ticks) for tick in ticks}) == len(ticks)


def test_an_interval_is_judged_by_its_ends() -> None:
    assert judgement(_difference(0.1, 0.001, 0.2)) == "better"
    assert judgement(_difference(-0.1, -0.2, -0.001)) == "worse"
    assert judgement(_difference(0.1, 0.0, 0.2)) == "no difference shown"
    assert interval_words(_difference(-0.0004, -0.0006, 0.00049)) == "+0.000 (−0.001 to +0.000)"


def _spread(mean: float | None, spread: float | None) -> str:
    return spread_words(MeasureResult("auroc", mean, spread, ()))


def test_means_and_spreads_have_three_decimals() -> None:
    assert _spread(0.5, 0.0) == "0.500\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.000"
    assert _spread(0.98765, None) == "0.988"
    assert _spread(None, None) == "–"


def test_curves_lie_between_the_axes() -> None:
    across, upwards = [0.0, 0.5, None, 1.0], [0.0, 1.0, 1.0, 1.0]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    middle = (LEFT + right) / 2
    wanted = f"{float(LEFT)},{float(bottom)} {middle},{float(TOP)} {float(right)},{float(TOP)}"
    assert polyline(across, upwards) == wanted
    assert right - LEFT == bottom - TOP, "a ROC curve is drawn in a square"


def test_each_set_is_plotted_beside_the_real_slices() -> None:
    table = _table(classic=_difference(0, 0, 0), set0_1x=_difference(0, 0, 0), set0_only=_difference(0, 0, 0))
    controls, sdm = curves(table, ["sdm"])
    assert [line.arm for line in controls.lines] == ["name of real", "name of classic"]
    assert [line.arm for line in sdm.lines] == ["name of real", "name of set0-1x", "name of set0-only"]
    assert [line.dashes for line in sdm.lines] == [0, 1, 2]
    assert sdm.lines[0].area == "0.750\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.020"
    assert sdm.summary.startswith("true positive rate (sensitivity) over false positive rate")


def test_of_many_ratios_the_largest_and_the_set_alone_are_plotted() -> None:
    none = _difference(0, 0, 0)
    table = task_result(
        arm_result("classic", none),
        *(arm_result(f"set0-{ratio}x", none, synthetic=0) for ratio in range(1, 8)),
        arm_result("set0-only", none, synthetic=0),
    )
    _, sdm = curves(table, ["sdm"])
    assert [line.arm for line in sdm.lines] == [
        f"name of {key}" for key in ("real", "set0-4x", "set0-5x", "set0-6x", "set0-7x", "set0-only")
    ]
    assert sdm.left_out == ("name of set0-1x", "name of set0-2x", "name of set0-3x")


def test_the_tenth_set_is_not_the_first() -> None:
    table = task_result(*(arm_result(f"set{index}-1x", synthetic=index) for index in range(12)))
    groups = groups_of(table.arms, [f"of {index}" for index in range(12)])
    assert [[arm.key for arm in arms] for _, arms in groups[1:]] == [[f"set{n}-1x"] for n in range(12)]


def test_bands_are_named_counted_and_kept_out_of_the_other_measures() -> None:
    names = ["ap50_nodule", "ap50_0to6mm", "ap50_6to10mm", "ap50_10toinfmm", "ar50_nodule"]
    titles = ("0 to 6 mm", "6 to 10 mm", "10 mm and more")
    test_bands = tuple(map(DiameterBand, names[1:4], titles, (1, 2, 3)))
    real = dataclasses.replace(
        arm_result("real"), measures=tuple(MeasureResult(name, 0.5, None, ()) for name in names)
    )
    table = dataclasses.replace(
        task_result(), task="localisation", test=PictureTestSet(12, 6, 6, 3, test_bands), arms=(real,)
    )
    assert [(band.measure, band.title, band.nodules) for band in bands(table)] == [
        ("ap50_0to6mm", "0 to 6 mm", 1),
        ("ap50_6to10mm", "6 to 10 mm", 2),
        ("ap50_10toinfmm", "10 mm and more", 3),
    ]
    assert measures_of(table) == ["ap50_nodule", "ar50_nodule"]


def test_the_fewest_resamples_that_count_are_those_of_the_headline() -> None:
    table = _table(classic=_difference(0, 0, 0, 990), set0_1x=_difference(0, 0, 0, 17))
    assert fewest_draws(table) == 17

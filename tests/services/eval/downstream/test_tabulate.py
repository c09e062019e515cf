"""From predictions to results and a verdict, on predictions whose measures are known."""

import dataclasses

import numpy as np
import pytest

from services.eval.downstream.arms import all_arms
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import (
    DiameterBand,
    Difference,
    PictureTestSet,
    Task,
    TaskResult,
    measure_title,
)
from services.eval.downstream.runs import DownstreamRun, RunResult
from services.eval.downstream.tabulate import tabulate
from services.eval.report.verdict import downstream_sentences
from tests.services.reports import downstream_results

SCANS = 40
ARMS = all_arms(["sdm"], [1])
BOX = np.array([[10.0, 10.0, 8.0, 8.0]])


def _test_set() -> Examples:
    """One scan per picture: those of even index show a nodule, of 5, 8 or 12 mm; a crop of each picture."""
    shown = np.arange(SCANS) % 2 == 0
    return Examples(
        pictures=np.zeros((SCANS, 32, 32), np.int16),
        boxes=tuple((tuple(BOX[0].tolist()),) if has else () for has in shown),
        pixel_mm=(1.0,) * SCANS,
        diameters_mm=tuple(
            ((5.0, 8.0, 12.0)[number // 2 % 3],) if has else () for number, has in enumerate(shown)
        ),
        crops=np.zeros((SCANS, 32, 32), np.int16),
        crop_is_nodule=shown,
        crop_pictures=np.arange(SCANS),
        scans=tuple(f"scan-{number}" for number in range(SCANS)),
    )


def _results(
    task: Task, right: dict[str, list[int]], usual: tuple[int, ...] = (10, 11, 9, 10, 10)
) -> TaskResult:
    """Networks of each arm; each is right on the first few of the pictures with a nodule."""
    results = {}
    for arm in ARMS:
        for seed, count in enumerate(right.get(arm.key, usual)):
            run = DownstreamRun(task, "tiny", arm, 1, 0, seed, 0)
            hits = np.zeros(SCANS, bool)
            hits[0 : 2 * count : 2] = True
            boxes = tuple((BOX if hit else np.zeros((0, 4)), np.array([0.9] * int(hit))) for hit in hits)
            scores = np.where(hits, 0.9, 0.1)
            results[run] = RunResult(7, (1.0, 0.5), ((4, 0.5),), 4 + seed, scores, boxes)
    return tabulate(task, "a network", 8, ARMS, results, (3,), _test_set(), 0)


def test_localisation_by_arm_and_band() -> None:
    table = _results("localisation", {"set0-1x": [20, 16, 20, 20, 20]}, usual=(10,) * 5)
    assert table.test == PictureTestSet(
        pictures=40,
        pictures_with_nodules=20,
        nodules=20,
        scans=40,
        bands=(
            DiameterBand("ap50_0to6mm", "0 to 6 mm", 7),
            DiameterBand("ap50_6to10mm", "6 to 10 mm", 7),
            DiameterBand("ap50_10toinfmm", "10 mm and more", 6),
        ),
    )
    assert (table.steps, table.validation_scans, table.not_measured) == (8, (3,), None)
    arms = {arm.key: arm for arm in table.arms}
    real, added = arms["real"], arms["set0-1x"]
    assert real.chosen_steps == (4, 5, 6, 7, 8)
    # Half of the nodules at a precision of 1: 51 of COCO's 101 recalls are reached.
    assert (real.measure("ap50_nodule").mean, real.measure("ap50_nodule").spread) == (
        pytest.approx(51 / 101, abs=1e-4),
        0.0,
    )
    assert added.measure("ap50_nodule").mean == pytest.approx((4 * 101 + 81) / 5 / 101, abs=1e-4)
    assert added.measure("ar50_nodule").mean == 0.96
    assert added.measure("ar50_nodule").spread == pytest.approx(0.2 / 5**0.5, abs=1e-4)
    # The first 10 nodules: 4, 3 and 3 of the bands.
    assert real.measure("ap50_0to6mm").mean == pytest.approx(58 / 101, abs=1e-4)
    assert real.measure("ap50_10toinfmm").mean == pytest.approx(51 / 101, abs=1e-4)
    measure = added.measure("ap50_nodule")
    assert [each.reference for each in measure.differences] == ["real", "classic", "duplicates"]
    for each in measure.differences:
        assert each.interval is not None
        low, middle, high = each.interval
        assert middle == pytest.approx(46 / 101, abs=1e-4)
        assert 0 < low < middle < high
    assert real.measure("ap50_nodule").differences == ()
    # Networks that do the same are no sign that nothing differs.
    equal = arms["classic"].measure("ap50_nodule").to("real")
    assert equal is not None
    assert equal == Difference("real", None, None, None, equal.draws)
    # AP50:95 and single bands have no interval.
    assert {each.measure for each in added.measures if not each.differences} == {
        "ap_nodule",
        *(band.measure for band in table.test.bands),
    }
    assert real.curve.x[-1] == 0.5
    (sentence,) = downstream_sentences(downstream_results(table), ["sdm"])
    assert sentence.startswith("Localisation: adding 1 x “sdm” to the real slices helps (")
    assert "+0.455 to copies of real (" in sentence


def test_boxes_of_other_sizes_do_not_count_against_a_band() -> None:
    # A true box, a larger and a smaller wrong one above it; sides in px, of 0.5 mm each.
    test = dataclasses.replace(
        _test_set(),
        boxes=((tuple(BOX[0].tolist()),), *((),) * (SCANS - 1)),
        diameters_mm=((5.0,), *((),) * (SCANS - 1)),
        pixel_mm=(0.5,) * SCANS,
    )
    wrong = np.array([[20.0, 20.0, 13.0, 13.0], [0.0, 0.0, 3.0, 3.0], [10.0, 10.0, 8.0, 8.0]])
    nothing = (np.zeros((0, 4)), np.zeros(0))
    results = {
        DownstreamRun("localisation", "tiny", arm, 1, 0, seed, 0): RunResult(
            7, (1.0, 0.5), (), 4, np.zeros(0), ((wrong, np.array([0.9, 0.8, 0.7])), *(nothing,) * (SCANS - 1))
        )
        for arm in ARMS
        for seed in range(2)
    }
    table = tabulate("localisation", "a network", 8, ARMS, results, (3,), test, 0)
    # 13 px are 6.5 mm, beyond the band of 0 to 6 mm; 3 px are 1.5 mm, in it.
    assert table.arms[0].measure("ap50_0to6mm").mean == pytest.approx(1 / 2)
    assert table.arms[0].measure("ap50_nodule").mean == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize(
    ("right", "word"),
    [
        ([20, 19, 20, 20, 20], "helps"),
        ([1, 2, 0, 1, 1], "harms"),
        ([10, 11, 10, 9, 10], "makes no difference that can be shown"),
    ],
)
def test_the_verdict_follows_the_intervals(right: list[int], word: str) -> None:
    table = _results(
        "classification",
        {"set0-1x": right, "classic": [11, 9, 10, 10, 10], "duplicates-1x": [9, 11, 10, 10, 10]},
    )
    (sentence,) = downstream_sentences(downstream_results(table), ["sdm"])
    assert sentence.startswith(
        f"Classification: adding 1 x “sdm” to the real slices {word} (difference in balanced accuracy"
    )
    arms = {arm.key: arm for arm in table.arms}
    assert arms["real"].measure("sensitivity").mean == 0.5
    assert arms["real"].measure("specificity").mean == 1.0
    assert arms["set0-1x"].measure("balanced_accuracy").mean == pytest.approx(
        0.5 + sum(right) / 5 / 20 / 2, abs=1e-4
    )


@pytest.mark.parametrize(
    ("task", "usual", "words"),
    [
        (
            "classification",
            (0,) * 5,
            "balanced accuracy of the real slices alone is 0.500, 95 % interval 0.5",
        ),
        ("classification", (0, 9, 0, 0, 9), "the real slices alone is 0.590, 95 % interval 0.4"),
        ("localisation", (0,) * 5, "AP50 on pictures with a nodule of the real slices alone is 0.000"),
        ("localisation", (1, 2, 1, 1, 2), "and 0.05 takes no learning"),
    ],
)
def test_where_real_slices_teach_nothing_there_is_no_difference(task: Task, usual, words: str) -> None:
    table = _results(task, {"set0-1x": [18, 19, 20, 20, 20]}, usual=usual)
    assert table.not_measured is not None
    assert table.not_measured.why_not.startswith("the networks learned nothing: ")
    assert words in table.not_measured.why_not
    assert not any(each.differences for arm in table.arms for each in arm.measures)
    (sentence,) = downstream_sentences(downstream_results(table), ["sdm"])
    assert sentence == f"{task.capitalize()}: not measured: {table.not_measured.why_not}."


def test_an_interval_without_width_is_not_believed() -> None:
    table = _results("localisation", {"set0-1x": [10, 11, 12, 10, 9]}, usual=(20,) * 5)
    assert table.not_measured is not None
    assert table.not_measured.why_not == (
        "AP50 on pictures with a nodule of the real slices alone is 1.000 by every network on any scans, so "
        "that its interval has a width of zero"
    )


def test_one_network_per_arm_is_compared_with_nothing() -> None:
    table = _results("classification", {"set0-1x": [18]}, usual=(10,))
    assert table.not_measured is not None
    assert "give --seeds 5" in table.not_measured.why_not
    assert table.arms[0].measure("sensitivity").mean == 0.5


def test_measures_have_names() -> None:
    assert measure_title("ap50_6to10mm") == "AP50, nodules of 6 to 10 mm"
    assert measure_title("ap50_10toinfmm") == "AP50, nodules of 10 mm and more"
    assert measure_title("auroc") == "AUROC"

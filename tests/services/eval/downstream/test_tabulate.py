"""From predictions to results and a verdict, on predictions whose measures are known."""

import numpy as np
import pytest

from services.eval.downstream.arms import all_arms
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import (
    DiameterBand,
    Difference,
    PictureTestSet,
    Task,
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
        diameters_mm=tuple(
            ((5.0, 8.0, 12.0)[number // 2 % 3],) if has else () for number, has in enumerate(shown)
        ),
        crops=np.zeros((SCANS, 32, 32), np.int16),
        crop_is_nodule=shown,
        crop_pictures=np.arange(SCANS),
        scans=tuple(f"scan-{number}" for number in range(SCANS)),
    )


def _results(task: Task, right: dict[str, list[int]]) -> dict[DownstreamRun, RunResult]:
    """Two networks per arm; each is right on the first few of the pictures with a nodule."""
    results = {}
    for arm in ARMS:
        for seed, count in enumerate(right.get(arm.key, [10, 10])):
            run = DownstreamRun(task, "tiny", arm, 1, 0, seed, 0)
            hits = np.zeros(SCANS, bool)
            hits[0 : 2 * count : 2] = True
            boxes = tuple((BOX if hit else np.zeros((0, 4)), np.array([0.9] * int(hit))) for hit in hits)
            scores = np.where(hits, 0.9, 0.1)
            results[run] = RunResult(7, (1.0, 0.5), scores, boxes)
    return results


def test_localisation_by_arm_and_band() -> None:
    results = _results("localisation", {"set0-1x": [14, 16]})
    table = tabulate("localisation", "a network", ARMS, results, _test_set(), 0)
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
    arms = {arm.key: arm for arm in table.arms}
    real, added = arms["real"], arms["set0-1x"]
    # Half of the nodules at a precision of 1: 51 of COCO's 101 recalls are reached. (Its recall of 0.7 is a
    # rounding error above 14 of 20, so that those reach 70.)
    assert (real.measure("ap50_nodule").mean, real.measure("ap50_nodule").spread) == (
        pytest.approx(51 / 101, abs=1e-4),
        0.0,
    )
    assert added.measure("ap50_nodule").mean == pytest.approx((70 + 81) / 2 / 101, abs=1e-4)
    assert added.measure("ar50_nodule").mean == 0.75
    assert added.measure("ar50_nodule").spread == pytest.approx(np.std([0.7, 0.8], ddof=1), abs=1e-4)
    # The first 10 nodules: 4, 3 and 3 of the bands.
    assert real.measure("ap50_0to6mm").mean == pytest.approx(58 / 101, abs=1e-4)
    assert real.measure("ap50_10toinfmm").mean == pytest.approx(51 / 101, abs=1e-4)
    difference = added.measure("ap50_nodule").difference
    assert difference is not None
    assert difference.interval is not None
    low, middle, high = difference.interval
    assert middle == pytest.approx(24.5 / 101, abs=1e-4)
    assert 0 < low < middle < high
    assert {each.difference for each in real.measures} == {None}
    equal = arms["classic"].measure("ap50_nodule").difference
    assert equal is not None
    assert equal == Difference(0.0, 0.0, 0.0, equal.draws)
    # AP50:95 and single bands have no interval.
    assert {each.measure for each in added.measures if each.difference is None} == {
        "ap_nodule",
        *(band.measure for band in table.test.bands),
    }
    assert real.curve.x[-1] == 0.5
    (sentence,) = downstream_sentences(downstream_results(table), ["sdm"])
    assert sentence.startswith(
        "Localisation: adding 1 x “sdm” to the real slices helps (AP50 on pictures with a nodule +0.243, 95 %"
    )


@pytest.mark.parametrize(
    ("right", "word"),
    [([18, 19], "helps"), ([2, 3], "harms"), ([10, 11], "makes no difference that these scans can show")],
)
def test_the_verdict_follows_the_interval(right: list[int], word: str) -> None:
    results = _results("classification", {"set0-1x": right})
    table = tabulate("classification", "a network", ARMS, results, _test_set(), 0)
    (sentence,) = downstream_sentences(downstream_results(table), ["sdm"])
    assert sentence.startswith(
        f"Classification: adding 1 x “sdm” to the real slices {word} (balanced accuracy"
    )
    arms = {arm.key: arm for arm in table.arms}
    assert arms["real"].measure("sensitivity").mean == 0.5
    assert arms["real"].measure("specificity").mean == 1.0
    assert arms["set0-1x"].measure("balanced_accuracy").mean == pytest.approx(
        0.5 + sum(right) / 2 / 20 / 2, abs=1e-4
    )


def test_measures_have_names() -> None:
    assert measure_title("ap50_6to10mm") == "AP50, nodules of 6 to 10 mm"
    assert measure_title("ap50_10toinfmm") == "AP50, nodules of 10 mm and more"
    assert measure_title("auroc") == "AUROC"

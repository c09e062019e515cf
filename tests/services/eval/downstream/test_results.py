"""From findings to a table and a verdict, on findings whose numbers are known."""

import numpy as np
import pytest

from services.eval.downstream.arms import all_arms
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import name_of, tabulate, verdict
from services.eval.downstream.runs import DownstreamRun, RunResult

SCANS = 40
ARMS = all_arms(["sdm"], [1])
BOX = np.array([[10.0, 10.0, 8.0, 8.0]])


def _test_set() -> Examples:
    """A scan a picture: those of even number show a nodule, of 5, 8 or 12 mm; a crop of each picture."""
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


def _found(task: str, right: dict[str, list[int]]) -> dict[DownstreamRun, RunResult]:
    """Two networks an arm; each is right on so many of the pictures with a nodule, the first ones."""
    found = {}
    for arm in ARMS:
        for seed, count in enumerate(right.get(arm.key, [10, 10])):
            cell = DownstreamRun(task, "tiny", arm, 1, 0, seed, 0)  # type: ignore[arg-type]
            hits = np.zeros(SCANS, bool)
            hits[0 : 2 * count : 2] = True
            boxes = tuple((BOX if hit else np.zeros((0, 4)), np.array([0.9] * int(hit))) for hit in hits)
            scores = np.where(hits, 0.9, 0.1)
            found[cell] = RunResult(7, (1.0, 0.5), scores, boxes)
    return found


def test_localisation_by_arm_and_band() -> None:
    table = tabulate("localisation", ARMS, _found("localisation", {"set0-1x": [14, 16]}), _test_set(), 0)
    assert table["test"] == {
        "pictures": 40,
        "pictures_with_nodules": 20,
        "nodules": 20,
        "nodules_by_band_mm": {"0 to 6": 7, "6 to 10": 7, "10 to inf": 6},
        "scans": 40,
    }
    rows = {row["key"]: row for row in table["arms"]}
    # Half of the nodules at a precision of 1: 51 of COCO's 101 recalls are reached. (Its recall of 0.7 is a
    # rounding error above 14 of 20, so that those reach 70.)
    assert rows["real"]["values"]["ap50_nodule"] == {"mean": pytest.approx(51 / 101, abs=1e-4), "spread": 0.0}
    assert rows["set0-1x"]["values"]["ap50_nodule"]["mean"] == pytest.approx((70 + 81) / 2 / 101, abs=1e-4)
    assert rows["set0-1x"]["values"]["ar50_nodule"] == {
        "mean": 0.75,
        "spread": pytest.approx(np.std([0.7, 0.8], ddof=1), abs=1e-4),
    }
    # The first 10 nodules: 4, 3 and 3 of the bands.
    assert rows["real"]["values"]["ap50_0to6mm"]["mean"] == pytest.approx(58 / 101, abs=1e-4)
    assert rows["real"]["values"]["ap50_10toinfmm"]["mean"] == pytest.approx(51 / 101, abs=1e-4)
    difference = rows["set0-1x"]["difference_to_real"]["ap50_nodule"]
    assert difference["difference"] == pytest.approx(24.5 / 101, abs=1e-4)
    assert 0 < difference["low"] < difference["difference"] < difference["high"]
    assert rows["real"]["difference_to_real"] is None
    assert rows["classic"]["difference_to_real"]["ap50_nodule"] | {"draws": 0} == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "draws": 0,
    }
    assert rows["real"]["curve"]["recall"][-1] == 0.5
    (sentence,) = verdict(table, ARMS, ["sdm"])
    assert sentence.startswith(
        "Localisation: adding 1 x “sdm” to the real slices helps (AP50 on pictures with a nodule +0.243, 95 %"
    )


@pytest.mark.parametrize(
    ("right", "word"),
    [([18, 19], "helps"), ([2, 3], "harms"), ([10, 11], "makes no difference that these scans can show")],
)
def test_the_verdict_is_the_intervals(right: list[int], word: str) -> None:
    table = tabulate("classification", ARMS, _found("classification", {"set0-1x": right}), _test_set(), 0)
    (sentence,) = verdict(table, ARMS, ["sdm"])
    assert sentence.startswith(
        f"Classification: adding 1 x “sdm” to the real slices {word} (balanced accuracy"
    )
    rows = {row["key"]: row for row in table["arms"]}
    assert rows["real"]["values"]["sensitivity"]["mean"] == 0.5
    assert rows["real"]["values"]["specificity"]["mean"] == 1.0
    assert rows["set0-1x"]["values"]["balanced_accuracy"]["mean"] == pytest.approx(
        0.5 + sum(right) / 2 / 20 / 2, abs=1e-4
    )


def test_measures_have_names() -> None:
    assert name_of("ap50_6to10mm") == "AP50, nodules of 6 to 10 mm"
    assert name_of("ap50_10toinfmm") == "AP50, nodules of 10 mm and more"
    assert name_of("auroc") == "AUROC"

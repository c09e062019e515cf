"""From what the networks found to a table: each arm's measures, and their difference to real slices alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lungforge.metrics import detection
from lungforge.metrics.bootstrap import paired_interval, scan_weights
from lungforge.metrics.classification import classification, roc_curve
from lungforge.randomness import numpy_generator
from services.eval.downstream.arms import Arm
from services.eval.downstream.examples import Examples
from services.eval.downstream.runs import Cell, Outcome, Task

#: Draws of the bootstrap.
DRAWS: Final = 1000
#: Bands of nodule diameters, in mm: lower edge in, upper edge out.
BANDS_MM: Final = ((0.0, 6.0), (6.0, 10.0), (10.0, float("inf")))
#: The measure that the verdict speaks of.
HEADLINE: Final[Mapping[Task, str]] = {"classification": "balanced_accuracy", "localisation": "ap50_nodule"}
MINUS: Final = "\N{MINUS SIGN}"
#: Points of a curve that are kept.
_CURVE_POINTS: Final = 101
_DIGITS: Final = 4

Found = Mapping[Cell, Outcome]


def tabulate(task: Task, arms: Sequence[Arm], found: Found, test: Examples, seed: int) -> dict[str, Any]:
    """The numbers of a task, as JSON.

    Args:
        task: Which.
        arms: The arms; the first one is what the others are held against.
        found: What every network found.
        test: The test set.
        seed: Of the bootstrap.
    """
    cells = {arm.key: [cell for cell in found if cell.task == task and cell.arm == arm] for arm in arms}
    scans = [test.scans[number] for number in test.crop_pictures.tolist()]
    scans = scans if task == "classification" else list(test.scans)
    # The same draws for every arm: the intervals are of paired differences.
    weights = scan_weights(scans, DRAWS, numpy_generator(seed, task, "scans"))
    measure = _classification if task == "classification" else _localisation
    values = {
        arm.key: _stack([measure(found[cell], test, weights) for cell in cells[arm.key]]) for arm in arms
    }
    curve = _roc if task == "classification" else _precision_recall
    table = []
    for arm in arms:
        own, baseline = values[arm.key], values[arms[0].key]
        outcomes = [found[cell] for cell in cells[arm.key]]
        table.append(
            {
                "key": arm.key,
                "name": arm.name,
                "training_pictures": sorted({outcome.pictures for outcome in outcomes}),
                "last_loss": _rounded(float(np.mean([outcome.losses[1] for outcome in outcomes]))),
                "values": {name: _spread(value[:, 0]) for name, value in own.items()},
                "difference_to_real": None
                if arm is arms[0]
                else {
                    name: _interval(value, baseline[name], seed)
                    for name, value in own.items()
                    if value.shape[1] > 1
                },
                "curve": curve(outcomes, test),
            }
        )
    return {
        "task": task,
        "headline": HEADLINE[task],
        "networks_per_arm": len(cells[arms[0].key]),
        "draws": DRAWS,
        "test": _describe(task, test),
        "arms": table,
    }


def verdict(table: dict[str, Any], arms: Sequence[Arm], names: Sequence[str]) -> list[str]:
    """A sentence for each set of synthetic slices: does it help, by how much, within which interval?"""
    sentences = []
    what = _WORDS[table["headline"]]
    rows = {row["key"]: row for row in table["arms"]}
    for number, name in enumerate(names):
        for arm in arms:
            if arm.synthetic != number or not arm.real:
                continue
            found = rows[arm.key]["difference_to_real"][table["headline"]]
            done = f"{table['task'].capitalize()}: adding {arm.ratio:g} x “{name}” to the real slices"
            sentences.append(f"{done} {_judged(found, what)}.")
    return sentences


def direction_of(found: dict[str, Any]) -> int | None:
    """What an interval says of a difference: 1 above none, -1 below, 0 neither; None without an interval."""
    if found["low"] is None:
        return None
    return int(found["low"] > 0) - int(found["high"] < 0)


def _judged(found: dict[str, Any], what: str) -> str:
    direction = direction_of(found)
    if direction is None:
        return "cannot be judged by so few scans"
    word = {1: "helps", -1: "harms", 0: "makes no difference that these scans can show"}[direction]
    size = f"{found['difference']:+.3f}, 95 % interval {found['low']:+.3f} to {found['high']:+.3f}"
    return f"{word} ({what} {size.replace('-', MINUS)})"


def band_measure(low: float, high: float) -> str:
    """The name of AP50 over the nodules of a band of diameters, mm."""
    return f"ap50_{low:g}to{high:g}mm"


def band_key(low: float, high: float) -> str:
    """The name of a band in the counts of the test set."""
    return f"{low:g} to {high:g}"


def band_words(low: float, high: float) -> str:
    """What a band is called in sentences and tables."""
    return f"{low:g} mm and more" if math.isinf(high) else f"{low:g} to {high:g} mm"


#: What measures are called in sentences and tables.
_WORDS: Final[Mapping[str, str]] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auroc": "AUROC",
    "ap50_nodule": "AP50 on pictures with a nodule",
    "ap50_all": "AP50 on all pictures",
    "ap_nodule": "AP50:95 on pictures with a nodule",
    "ar50_nodule": "recall at 20 boxes a picture",
    **{band_measure(*band): f"AP50, nodules of {band_words(*band)}" for band in BANDS_MM},
}


def name_of(measure: str) -> str:
    """What a measure is called in sentences and tables."""
    return _WORDS[measure]


def _classification(outcome: Outcome, test: Examples, weights: np.ndarray) -> dict[str, np.ndarray]:
    return dataclasses.asdict(classification(test.crop_is_nodule, outcome.scores, weights))


def _localisation(outcome: Outcome, test: Examples, weights: np.ndarray) -> dict[str, np.ndarray]:
    truths = [np.asarray(own, dtype=np.float64).reshape(-1, 4) for own in test.boxes]
    shown = np.asarray([len(own) > 0 for own in truths])
    at_half = detection.match(outcome.found, truths, 0.5)
    everything = np.ones((1, len(truths)))
    ladder = [
        detection.average_precision(detection.match(outcome.found, truths, threshold), everything * shown)
        for threshold in detection.THRESHOLDS
    ]
    values = {
        "ap50_nodule": detection.average_precision(at_half, weights * shown),
        "ap50_all": detection.average_precision(at_half, weights),
        "ar50_nodule": detection.average_recall(at_half, weights * shown),
        # One row, of all scans: without an interval.
        "ap_nodule": np.mean(ladder, axis=0),
    }
    for low, high in BANDS_MM:
        inside = [np.asarray([low <= size < high for size in own], dtype=bool) for own in test.diameters_mm]
        banded = detection.match(outcome.found, truths, 0.5, inside)
        values[band_measure(low, high)] = detection.average_precision(banded, everything * shown)
    return values


def _roc(outcomes: Sequence[Outcome], test: Examples) -> dict[str, list[float | None]]:
    """The curve of all networks' scores together."""
    false, true = roc_curve(
        np.tile(test.crop_is_nodule, len(outcomes)), np.concatenate([each.scores for each in outcomes])
    )
    return _thinned({"false_positive_rate": false, "true_positive_rate": true})


def _precision_recall(outcomes: Sequence[Outcome], test: Examples) -> dict[str, list[float | None]]:
    """The curve of all networks' boxes together, on the pictures with a nodule."""
    shown = test.with_nodules().tolist()
    found = [each.found[number] for each in outcomes for number in shown]
    truths = [np.asarray(test.boxes[number]).reshape(-1, 4) for _ in outcomes for number in shown]
    recall, precision = detection.precision_recall_curve(detection.match(found, truths, 0.5))
    return _thinned({"recall": recall, "precision": precision})


def _thinned(curve: dict[str, np.ndarray]) -> dict[str, list[float | None]]:
    length = len(next(iter(curve.values())))
    kept = np.unique(np.linspace(0, length - 1, min(length, _CURVE_POINTS)).round().astype(int))
    return {name: [_rounded(value) for value in values[kept].tolist()] for name, values in curve.items()}


def _stack(values: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Networks down, draws across."""
    return {name: np.stack([each[name] for each in values]) for name in values[0]}


def _spread(values: np.ndarray) -> dict[str, Any]:
    several = len(values) > 1
    return {
        "mean": _rounded(float(values.mean())),
        "spread": _rounded(float(values.std(ddof=1))) if several else None,
    }


def _interval(values: np.ndarray, baseline: np.ndarray, seed: int) -> dict[str, Any]:
    interval = paired_interval(values, baseline, numpy_generator(seed, "networks"))
    return {name: _rounded(value) for name, value in dataclasses.asdict(interval).items()}


def _describe(task: Task, test: Examples) -> dict[str, Any]:
    if task == "classification":
        return {
            "crops": len(test.crops),
            "nodules": int(test.crop_is_nodule.sum()),
            "scans": len({test.scans[number] for number in test.crop_pictures.tolist()}),
        }
    sizes = [size for own in test.diameters_mm for size in own]
    return {
        "pictures": len(test.pictures),
        "pictures_with_nodules": len(test.with_nodules()),
        "nodules": len(sizes),
        "nodules_by_band_mm": {
            band_key(low, high): sum(low <= size < high for size in sizes) for low, high in BANDS_MM
        },
        "scans": len(set(test.scans)),
    }


def _rounded(value: float) -> float | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None

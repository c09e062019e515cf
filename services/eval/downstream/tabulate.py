"""From predictions to results: each arm's measures, and their difference to the real slices alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics import detection
from lungforge.metrics.bootstrap import paired_interval, scan_weights
from lungforge.metrics.classification import classification, roc_curve
from lungforge.randomness import numpy_generator
from services.eval.downstream.arms import Arm
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import (
    BANDS_MM,
    HEADLINE,
    ArmCurve,
    ArmResult,
    CropTestSet,
    DiameterBand,
    Difference,
    MeasureResult,
    PictureTestSet,
    Task,
    TaskResult,
    band_measure,
    band_title,
)
from services.eval.downstream.runs import DownstreamRun, RunResult

#: Draws of the bootstrap.
DRAWS: Final = 1000
#: Points of a curve that are kept.
_CURVE_POINTS: Final = 101
_DIGITS: Final = 4

#: The measures of one network over the draws, each ``[draws + 1]``, or ``[1]`` for those without an interval.
_Measures = dict[str, NDArray[np.float64]]


def tabulate(
    task: Task,
    network: str,
    arms: Sequence[Arm],
    results: Mapping[DownstreamRun, RunResult],
    test: Examples,
    seed: int,
) -> TaskResult:
    """The results of a task.

    Args:
        task: Which.
        network: What was trained, in words.
        arms: The arms; the others are compared with the first one.
        results: Of every run.
        test: The test set.
        seed: Of the bootstrap.
    """
    by_arm = {
        arm.key: [result for run, result in results.items() if run.task == task and run.arm == arm]
        for arm in arms
    }
    # The same draws for every arm: the intervals are of paired differences.
    weights = scan_weights(_scans(task, test), DRAWS, numpy_generator(seed, task, "scans"))
    measure = _classification if task == "classification" else _localisation
    values = {
        key: _stack([measure(result, test, weights) for result in of_arm]) for key, of_arm in by_arm.items()
    }
    curve = _roc if task == "classification" else _precision_recall
    baseline = values[arms[0].key]
    return TaskResult(
        task=task,
        network=network,
        headline=HEADLINE[task],
        networks_per_arm=len(by_arm[arms[0].key]),
        draws=DRAWS,
        test=_crops(test) if task == "classification" else _pictures(test),
        arms=tuple(
            ArmResult(
                key=arm.key,
                name=arm.name,
                real=arm.real,
                synthetic=arm.synthetic,
                ratio=arm.ratio,
                training_pictures=tuple(sorted({result.pictures for result in by_arm[arm.key]})),
                last_loss=_rounded(float(np.mean([result.losses[1] for result in by_arm[arm.key]]))),
                measures=tuple(
                    _measure(name, each, None if arm is arms[0] else baseline[name], seed)
                    for name, each in values[arm.key].items()
                ),
                curve=curve(by_arm[arm.key], test),
            )
            for arm in arms
        ),
    )


def _measure(
    name: str, values: NDArray[np.float64], baseline: NDArray[np.float64] | None, seed: int
) -> MeasureResult:
    """A measure from its values ``[networks, draws + 1]``, and those of the real slices alone."""
    plain = values[:, 0]
    difference = None
    if baseline is not None and values.shape[1] > 1:
        interval = paired_interval(values, baseline, numpy_generator(seed, "networks"))
        difference = Difference(
            difference=_rounded(interval.difference),
            low=_rounded(interval.low),
            high=_rounded(interval.high),
            draws=interval.draws,
        )
    spread = _rounded(float(plain.std(ddof=1))) if len(plain) > 1 else None
    return MeasureResult(name, _rounded(float(plain.mean())), spread, difference)


def _classification(result: RunResult, test: Examples, weights: NDArray[np.float64]) -> _Measures:
    return dataclasses.asdict(classification(test.crop_is_nodule, result.scores, weights))


def _localisation(result: RunResult, test: Examples, weights: NDArray[np.float64]) -> _Measures:
    truths = [np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in test.boxes]
    shown = np.asarray([len(boxes) > 0 for boxes in truths])
    at_half = detection.match(result.detections, truths, 0.5)
    everything = np.ones((1, len(truths)))
    ladder = [
        detection.average_precision(detection.match(result.detections, truths, threshold), everything * shown)
        for threshold in detection.THRESHOLDS
    ]
    values = {
        "ap50_nodule": detection.average_precision(at_half, weights * shown),
        "ap50_all": detection.average_precision(at_half, weights),
        # One row, of all scans: without an interval.
        "ap_nodule": np.mean(ladder, axis=0),
        "ar50_nodule": detection.average_recall(at_half, weights * shown),
    }
    for low, high in BANDS_MM:
        inside = [
            np.asarray([low <= size < high for size in sizes], dtype=bool) for sizes in test.diameters_mm
        ]
        banded = detection.match(result.detections, truths, 0.5, inside)
        values[band_measure(low, high)] = detection.average_precision(banded, everything * shown)
    return values


def _roc(results: Sequence[RunResult], test: Examples) -> ArmCurve:
    """The curve over the scores of all networks."""
    false, true = roc_curve(
        np.tile(test.crop_is_nodule, len(results)), np.concatenate([each.scores for each in results])
    )
    return ArmCurve(_thinned(false), _thinned(true))


def _precision_recall(results: Sequence[RunResult], test: Examples) -> ArmCurve:
    """The curve over the boxes of all networks, on the pictures with a nodule."""
    shown = test.with_nodules().tolist()
    detections = [each.detections[index] for each in results for index in shown]
    truths = [np.asarray(test.boxes[index]).reshape(-1, 4) for _ in results for index in shown]
    recall, precision = detection.precision_recall_curve(detection.match(detections, truths, 0.5))
    return ArmCurve(_thinned(recall), _thinned(precision))


def _thinned(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), _CURVE_POINTS)).round().astype(int))
    return tuple(_rounded(value) for value in values[kept].tolist())


def _stack(values: Sequence[_Measures]) -> _Measures:
    """Networks down, draws across."""
    return {name: np.stack([each[name] for each in values]) for name in values[0]}


def _scans(task: Task, test: Examples) -> list[str]:
    """The scan of each example of a task."""
    if task == "localisation":
        return list(test.scans)
    return [test.scans[index] for index in test.crop_pictures.tolist()]


def _crops(test: Examples) -> CropTestSet:
    return CropTestSet(
        crops=len(test.crops),
        nodules=int(test.crop_is_nodule.sum()),
        scans=len(set(_scans("classification", test))),
    )


def _pictures(test: Examples) -> PictureTestSet:
    diameters = [diameter for of_picture in test.diameters_mm for diameter in of_picture]
    return PictureTestSet(
        pictures=len(test.pictures),
        pictures_with_nodules=len(test.with_nodules()),
        nodules=len(diameters),
        scans=len(set(test.scans)),
        bands=tuple(
            DiameterBand(
                measure=band_measure(low, high),
                title=band_title(low, high),
                nodules=sum(low <= diameter < high for diameter in diameters),
            )
            for low, high in BANDS_MM
        ),
    )


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None

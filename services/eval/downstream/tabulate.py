"""From predictions to results: each arm's measures, and their differences to the references."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics import detection
from lungforge.metrics.bootstrap import scan_weights
from lungforge.metrics.classification import classification, roc_curve
from lungforge.metrics.hierarchical import Interval, simultaneous_intervals
from lungforge.randomness import numpy_generator
from services.eval.downstream.arms import Arm, comparisons
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import (
    BANDS_MM,
    CHANCE,
    HEADLINE,
    REFERENCES,
    ArmCurve,
    ArmResult,
    CropTestSet,
    DiameterBand,
    Difference,
    MeasureResult,
    PictureTestSet,
    Reference,
    Task,
    TaskResult,
    band_measure,
    band_title,
    measure_title,
)
from services.eval.downstream.runs import DownstreamRun, RunResult
from services.eval.set_results import NotMeasured

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
    steps: int,
    arms: Sequence[Arm],
    results: Mapping[DownstreamRun, RunResult],
    validation_scans: tuple[int, ...],
    test: Examples,
    seed: int,
) -> TaskResult:
    """The results of a task.

    Args:
        task: Which.
        network: What was trained, in words.
        steps: For how long.
        arms: The arms, the references first.
        results: Of every run.
        validation_scans: How many scans were held out for validation, of each fold.
        test: The test set.
        seed: Of the bootstrap.
    """
    by_arm = [
        [result for run, result in results.items() if run.task == task and run.arm == arm] for arm in arms
    ]
    # The same draws for every arm: the intervals are of paired differences.
    weights = scan_weights(_scans(task, test), DRAWS, numpy_generator(seed, task, "scans"))
    measure = _classification if task == "classification" else _localisation
    values = [_stack([measure(result, test, weights) for result in of_arm]) for of_arm in by_arm]
    curve = _roc if task == "classification" else _precision_recall
    scans = _scans_with_nodules(test)
    not_measured = _nothing_learned(task, values[0], scans, seed)
    differences: dict[str, tuple[tuple[int, Difference], ...]] = {}
    if not_measured is None:
        differences = {name: _differences(name, arms, values, scans, seed) for name in values[0]}
    return TaskResult(
        task=task,
        network=network,
        headline=HEADLINE[task],
        networks_per_arm=len(by_arm[0]),
        steps=steps,
        validation_scans=validation_scans,
        draws=DRAWS,
        test=_crops(test) if task == "classification" else _pictures(test),
        not_measured=not_measured,
        arms=tuple(
            ArmResult(
                key=arm.key,
                name=arm.name,
                real=arm.real,
                synthetic=arm.synthetic,
                ratio=arm.ratio,
                augmented=arm.augment,
                training_pictures=tuple(sorted({result.pictures for result in by_arm[index]})),
                chosen_steps=tuple(result.step for result in by_arm[index]),
                last_loss=_rounded(float(np.mean([result.losses[1] for result in by_arm[index]]))),
                measures=tuple(
                    _measure(name, each, tuple(one for of, one in differences.get(name, ()) if of == index))
                    for name, each in values[index].items()
                ),
                curve=curve(by_arm[index], test),
            )
            for index, arm in enumerate(arms)
        ),
    )


def _nothing_learned(task: Task, real: _Measures, scans: int, seed: int) -> NotMeasured | None:
    """Why the arms of a task are not compared: networks that guess say nothing about what they learn from."""
    networks = len(next(iter(real.values())))
    if networks < 2:
        return NotMeasured("one network per arm says nothing about another training; give --seeds 5")
    for name, chance in CHANCE[task].items():
        constant = np.full_like(real[name], chance)
        (interval,) = simultaneous_intervals(
            np.stack([real[name], constant]), [(0, 1)], scans, numpy_generator(seed, "chance")
        )
        reached = f"{measure_title(name)} of the real slices alone is {chance + interval.estimate:.3f}"
        if not interval.low > 0:
            low, high = chance + interval.low, chance + interval.high
            ends = f", 95 % interval {low:.3f} to {high:.3f}" if np.isfinite(low) else ""
            return NotMeasured(
                f"the networks learned nothing: {reached}{ends}, and {chance:g} takes no learning"
            )
        if interval.has_no_width:
            return NotMeasured(
                f"{reached} by every network on any scans, so that its interval has a width of zero"
            )
    return None


def _differences(
    name: str, arms: Sequence[Arm], values: Sequence[_Measures], scans: int, seed: int
) -> tuple[tuple[int, Difference], ...]:
    """The differences of a measure, each beside the index of its arm; none of measures without draws."""
    if values[0][name].shape[1] == 1:
        return ()
    pairs = comparisons(arms)
    intervals = simultaneous_intervals(
        np.stack([each[name] for each in values]), pairs, scans, numpy_generator(seed, name, "repeats")
    )
    return tuple(
        (arm, _difference(REFERENCES[other], interval))
        for (arm, other), interval in zip(pairs, intervals, strict=True)
    )


def _difference(reference: Reference, interval: Interval) -> Difference:
    if interval.has_no_width:
        return Difference(reference, None, None, None, interval.draws)
    return Difference(
        reference,
        _rounded(interval.estimate),
        _rounded(interval.low),
        _rounded(interval.high),
        interval.draws,
    )


def _measure(name: str, values: NDArray[np.float64], differences: tuple[Difference, ...]) -> MeasureResult:
    """A measure from its values ``[networks, draws + 1]``."""
    plain = values[:, 0]
    spread = _rounded(float(plain.std(ddof=1))) if len(plain) > 1 else None
    return MeasureResult(name, _rounded(float(plain.mean())), spread, differences)


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
        sizes_mm = [
            np.sqrt(boxes[:, 2] * boxes[:, 3]) * pixel_mm
            for (boxes, _), pixel_mm in zip(result.detections, test.pixel_mm, strict=True)
        ]
        missing = [(low <= sizes) & (sizes < high) for sizes in sizes_mm]
        banded = detection.match(result.detections, truths, 0.5, inside, missing)
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


def _scans_with_nodules(test: Examples) -> int:
    """Scans that a measure is of: without a nodule a scan says little."""
    return len({test.scans[index] for index in test.with_nodules().tolist()})


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

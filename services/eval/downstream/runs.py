"""A run of the downstream tasks: one network is trained by a Ray task, tested, and its result kept in a file.

A file appears whole or not at all, is named after its run, and carries a digest of its content: so any task,
and the driver, may be killed at any time, and a run that has a sound file is not done again.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.datasets import DatasetWriter, Part
from lungforge.datasets.manifest import part_of
from lungforge.datasets.strict_json import parse_json
from lungforge.metrics import detection
from lungforge.metrics.classification import balanced_log_loss
from lungforge.randomness import numpy_generator, seed_of
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there
from services.common.devices import worker_device
from services.eval.downstream.arms import Arm, Training, compose, split_scans
from services.eval.downstream.augment import augment
from services.eval.downstream.classifier import CLASSIFIERS, Classifier
from services.eval.downstream.detector import DETECTORS, Detector
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import Task
from services.eval.downstream.training import Fit

#: Digits that boxes (px) and scores are kept to: more than a measure can tell, and the same on reading.
_BOX_DIGITS, _SCORE_DIGITS = 3, 6


@dataclass(frozen=True)
class DownstreamRun:
    """A network to train: of an arm, a fold and a seed.

    Attributes:
        task: What it learns.
        preset: How large it is and how long it is trained.
        arm: What it is trained on.
        folds: Into how many folds the scans are divided.
        fold: Which of them is held out for validation.
        seed: Of the weights and the batches; networks of one fold and seed are paired over the arms.
        job_seed: Of the job.
    """

    task: Task
    preset: str
    arm: Arm
    folds: int
    fold: int
    seed: int
    job_seed: int

    @property
    def name(self) -> str:
        """Its name in files."""
        return f"{self.task}-{self.arm.key}-fold{self.fold}-seed{self.seed}"


@dataclass(frozen=True)
class RunResult:
    """What a network predicts on the test set.

    Attributes:
        pictures: Pictures or crops that it was trained on.
        losses: Of the first and of the last tenth of the steps, means.
        validation: Step and score on the validation scans of each checkpoint; higher is better.
        step: The checkpoint that predicts.
        scores: Of the crops, ``[M]``: the probability of a nodule; empty of localisation.
        detections: Of each picture boxes ``[K, 4]`` and scores ``[K]``; empty of classification.
    """

    pictures: int
    losses: tuple[float, float]
    validation: tuple[tuple[int, float], ...]
    step: int
    scores: NDArray[np.float64]
    detections: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]


def read_result(writer: DatasetWriter, run: DownstreamRun) -> tuple[RunResult, Part] | None:
    """The result that is kept of a run; None when there is no file, or not as it was written."""
    path = _path(writer, run)
    data = read_if_there(join_uri(writer.uri, path))
    if data is None:
        return None
    try:
        document = parse_json(data)
        content = document["content"]
        sound = document["sha256"] == digest(content) and content["run"] == dataclasses.asdict(run)
        return (_decode(content), part_of(path, data)) if sound else None
    except (ValueError, KeyError, TypeError):
        return None


def write_result(writer: DatasetWriter, run: DownstreamRun, result: RunResult) -> Part:
    """Keep the result of a run."""
    content = {
        "run": dataclasses.asdict(run),
        "pictures": result.pictures,
        "losses": list(result.losses),
        "validation": [[step, round(score, _SCORE_DIGITS)] for step, score in result.validation],
        "step": result.step,
        "scores": result.scores.round(_SCORE_DIGITS).tolist(),
        "detections": [
            [boxes.round(_BOX_DIGITS).tolist(), scores.round(_SCORE_DIGITS).tolist()]
            for boxes, scores in result.detections
        ],
    }
    data = json.dumps({"sha256": digest(content), "content": content}).encode()
    path = _path(writer, run)
    write_bytes_atomic(join_uri(writer.uri, path), data)
    return part_of(path, data)


def train_and_test(
    run: DownstreamRun, training: Training, validation: Examples, test: Examples, device: torch.device
) -> RunResult:
    """Train a network and apply it to the test set. The same on the same machine, however often.

    Args:
        run: Which network.
        training: What it learns from.
        validation: What chooses its checkpoint.
        test: What the best checkpoint is applied to.
        device: Where.
    """
    # No arm in the names: the networks of one fold and seed start with the same weights in all arms.
    names = (run.job_seed, run.task, run.fold, run.seed)
    seed, generator = seed_of(*names, "weights"), numpy_generator(*names, "batches")
    if run.task == "classification":
        classifier = Classifier(CLASSIFIERS[run.preset], device=device, seed=seed)

        def score() -> float:
            return -balanced_log_loss(validation.crop_is_nodule, classifier.predict(validation.crops))

        fit = classifier.fit(
            training.crops, training.crop_is_nodule, generator, score, augment=run.arm.augment
        )
        return _result(len(training.crops), fit, scores=classifier.predict(test.crops))
    detector = Detector(DETECTORS[run.preset], device=device, seed=seed)
    shown = validation.with_nodules()
    pictures = validation.pictures[shown]
    truths = [np.asarray(validation.boxes[index]).reshape(-1, 4) for index in shown.tolist()]

    def precision() -> float:
        matches = detection.match(detector.predict(pictures), truths, 0.5)
        return float(detection.average_precision(matches, np.ones((1, len(truths))))[0])

    change = augment if run.arm.augment else None
    fit = detector.fit(training.pictures, training.boxes, generator, precision, change)
    return _result(len(training.pictures), fit, detections=tuple(detector.predict(test.pictures)))


@ray.remote
def train_network(
    writer: DatasetWriter,
    run: DownstreamRun,
    real: Examples,
    added: Examples | None,
    test: Examples,
    gpu: bool,
) -> None:
    """Do a run and keep its result, unless it is kept already."""
    if read_result(writer, run) is not None:
        return
    torch.set_num_threads(1)
    with_nodule = [len(boxes) > 0 for boxes in real.boxes]
    split = split_scans(real.scans, with_nodule, run.folds, run.fold, run.job_seed)
    training = compose(run.arm, real, added, split.training, run.job_seed)
    validation = real.of_scans(split.validation)
    write_result(writer, run, train_and_test(run, training, validation, test, worker_device(gpu)))


def _result(
    pictures: int,
    fit: Fit,
    scores: NDArray[np.float64] | None = None,
    detections: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...] = (),
) -> RunResult:
    tenth = max(1, len(fit.losses) // 10)
    return RunResult(
        pictures=pictures,
        losses=(float(np.mean(fit.losses[:tenth])), float(np.mean(fit.losses[-tenth:]))),
        validation=fit.validation,
        step=fit.step,
        scores=np.zeros(0) if scores is None else scores,
        detections=detections,
    )


def _decode(content: dict[str, Any]) -> RunResult:
    detections = tuple(
        (np.asarray(boxes, dtype=np.float64).reshape(-1, 4), np.asarray(scores, dtype=np.float64))
        for boxes, scores in content["detections"]
    )
    first, last = content["losses"]
    scores = np.asarray(content["scores"], dtype=np.float64)
    return RunResult(
        pictures=content["pictures"],
        losses=(first, last),
        validation=tuple((step, score) for step, score in content["validation"]),
        step=content["step"],
        scores=scores,
        detections=detections,
    )


def _path(writer: DatasetWriter, run: DownstreamRun) -> str:
    return f"runs-{writer.work[:12]}/{run.name}.json"

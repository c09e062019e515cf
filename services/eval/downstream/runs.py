"""One network of the downstream tasks: trained by a Ray task, tested on the same real slices, kept in a file.

A file appears whole or not at all, under a name made of the piece of work that it holds, and carries its own
digest: so any task, and the driver, may be killed at any time, and what is there is not done again.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import ray
import torch

from lungforge.config import digest
from lungforge.datasets import DatasetWriter, Part
from lungforge.datasets.manifest import part_of
from lungforge.randomness import numpy_generator, seed_of
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there
from services.eval.downstream.arms import Arm, Training, compose, training_scans
from services.eval.downstream.augment import augment
from services.eval.downstream.classifier import CLASSIFIERS, Classifier
from services.eval.downstream.detector import DETECTORS, Detector
from services.eval.downstream.examples import Examples

Task = Literal["classification", "localisation"]
#: Digits that boxes (px) and scores are kept to: more than a measure can tell, and the same on reading.
_BOX_DIGITS, _SCORE_DIGITS = 3, 6


@dataclass(frozen=True)
class Cell:
    """A network to train: an arm's, of a fold and a seed.

    Attributes:
        task: What it learns.
        preset: How large it is and how long it is trained.
        arm: What it is trained on.
        folds: Into how many folds the scans are divided.
        fold: Which of them is left out.
        seed: Of the weights and the batches; those of one fold and seed go in pairs over the arms.
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
class Outcome:
    """What a network found on the test set.

    Attributes:
        pictures: Pictures or crops that it was trained on.
        losses: Of the first and of the last tenth of the steps, means.
        scores: Of the crops, ``[M]``: the probability of a nodule; empty of localisation.
        found: Of each picture boxes ``[K, 4]`` and scores ``[K]``; empty of classification.
    """

    pictures: int
    losses: tuple[float, float]
    scores: np.ndarray
    found: tuple[tuple[np.ndarray, np.ndarray], ...]


def find(writer: DatasetWriter, cell: Cell) -> tuple[Outcome, Part] | None:
    """What an earlier run has found, if its file is as it was written."""
    path = _path(writer, cell)
    data = read_if_there(join_uri(writer.uri, path))
    if data is None:
        return None
    try:
        document = json.loads(data)
        content = document["content"]
        sound = document["sha256"] == digest(content) and content["cell"] == dataclasses.asdict(cell)
        return (_decode(content), part_of(path, data)) if sound else None
    except (ValueError, KeyError, TypeError):
        return None


def keep(writer: DatasetWriter, cell: Cell, outcome: Outcome) -> Part:
    """Write what a network found."""
    content = {
        "cell": dataclasses.asdict(cell),
        "pictures": outcome.pictures,
        "losses": list(outcome.losses),
        "scores": outcome.scores.round(_SCORE_DIGITS).tolist(),
        "found": [
            [boxes.round(_BOX_DIGITS).tolist(), scores.round(_SCORE_DIGITS).tolist()]
            for boxes, scores in outcome.found
        ],
    }
    data = json.dumps({"sha256": digest(content), "content": content}).encode()
    path = _path(writer, cell)
    write_bytes_atomic(join_uri(writer.uri, path), data)
    return part_of(path, data)


def train_and_test(
    cell: Cell, real: Examples, added: Examples | None, test: Examples, device: torch.device
) -> Outcome:
    """Train a network and have it look at the test set. The same on the same machine, however often."""
    scans = training_scans(real.scans, cell.folds, cell.fold, cell.job_seed)
    training = compose(cell.arm, real, added, scans, cell.job_seed)
    # No arm in the names: the networks of one fold and seed start with the same weights in all arms.
    names = (cell.job_seed, cell.task, cell.fold, cell.seed)
    seed, generator = seed_of(*names, "weights"), numpy_generator(*names, "batches")
    run = _classify if cell.task == "classification" else _localise
    return run(cell, training, test, device, seed, generator)


@ray.remote
def run_cell(
    writer: DatasetWriter, cell: Cell, real: Examples, added: Examples | None, test: Examples, gpu: bool
) -> None:
    """Do a cell, unless it is there."""
    if find(writer, cell) is not None:
        return
    torch.set_num_threads(1)
    keep(writer, cell, train_and_test(cell, real, added, test, torch.device("cuda" if gpu else "cpu")))


def _classify(
    cell: Cell,
    training: Training,
    test: Examples,
    device: torch.device,
    seed: int,
    generator: np.random.Generator,
) -> Outcome:
    network = Classifier(CLASSIFIERS[cell.preset], device=device, seed=seed)
    losses = network.fit(training.crops, training.crop_is_nodule, generator, augment=cell.arm.augment)
    return Outcome(len(training.crops), _ends(losses), network.predict(test.crops), ())


def _localise(
    cell: Cell,
    training: Training,
    test: Examples,
    device: torch.device,
    seed: int,
    generator: np.random.Generator,
) -> Outcome:
    network = Detector(DETECTORS[cell.preset], device=device, seed=seed)
    change = augment if cell.arm.augment else None
    losses = network.fit(training.pictures, training.boxes, generator, change)
    return Outcome(len(training.pictures), _ends(losses), np.zeros(0), tuple(network.predict(test.pictures)))


def _ends(losses: list[float]) -> tuple[float, float]:
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _decode(content: dict[str, Any]) -> Outcome:
    found = tuple(
        (np.asarray(boxes, dtype=np.float64).reshape(-1, 4), np.asarray(scores, dtype=np.float64))
        for boxes, scores in content["found"]
    )
    first, last = content["losses"]
    return Outcome(content["pictures"], (first, last), np.asarray(content["scores"], dtype=np.float64), found)


def _path(writer: DatasetWriter, cell: Cell) -> str:
    return f"cells-{writer.work[:12]}/{cell.name}.json"

"""The trainings of the comparison: equal minutes for each generator, in this process, without Ray.

The learning rate may fall towards the end of a training, so a training must know its length in advance: a
short probe of each generator times its steps, and minutes become steps. What a probe found is kept, so that
the same command again is the same trainings, and resumes them.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lungforge.config import digest, identity
from lungforge.datasets import Dataset
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDataset
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there
from services.common.progress import progress
from services.train.config import TrainConfig
from services.train.loop import train
from services.train.presets import PRESETS
from services.train.run import TrainingRun, model_writer, prepare

#: What is compared: the name to the generator, and to how its training differs from that of the preset.
MODELS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "sdm-edm": ("sdm", {"objective": "edm"}),
    "sdm-eps": ("sdm", {"objective": "eps"}),
    "gaugan": ("gaugan", {}),
}
#: Steps of a probe that are not timed, and those that are: the first ones allocate memory.
WARM_UP, TIMED = 5, 20
_PRESET: Final = "cpu"


@dataclass(frozen=True)
class Terms:
    """What is the same for every generator.

    Attributes:
        data: The slices.
        train: Subsets to train on.
        patch: Side of the patches, in px; None for whole slices.
        threads: Of the training and of sampling.
        out: Where the models go.
    """

    data: Dataset
    train: tuple[int, ...]
    patch: int | None
    threads: int
    out: str


@dataclass(frozen=True)
class Training:
    """One training of the comparison.

    Attributes:
        model: Which of ``MODELS``.
        minutes: How long it is to take.
        seconds_per_step: What the probe found.
        config: Of the job.
    """

    model: str
    minutes: float
    seconds_per_step: float
    config: TrainConfig

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.model}, {self.minutes:g} min, seed {self.config.seed}"


def steps_in(minutes: float, seconds_per_step: float) -> int:
    """How many steps fit in some minutes; one at least."""
    return max(1, int(minutes * 60 / seconds_per_step))


def plan(terms: Terms, models: list[str], minutes: list[float], seeds: int) -> list[Training]:
    """All trainings, the short ones first; times the steps of the generators that were not timed before.

    Raises:
        InputError: A training cannot be.
    """
    # All probes one after another: so the machine is the same for all of them.
    pace = {model: seconds_per_step(terms, model) for model in models}
    return [
        Training(
            model,
            budget,
            pace[model],
            _config(
                terms,
                model,
                out=join_uri(terms.out, f"{model}-{budget:g}min-seed{seed}"),
                steps=steps_in(budget, pace[model]),
                seed=seed,
            ),
        )
        for budget in sorted(set(minutes))
        for seed in range(seeds)
        for model in models
    ]


def seconds_per_step(terms: Terms, model: str) -> float:
    """The median time of a step: as an earlier command found it, or measured now."""
    with tempfile.TemporaryDirectory(prefix="lungforge-probe-") as scratch:
        config = _config(terms, model, out=scratch, steps=WARM_UP + TIMED, seed=0)
        made_of = {
            "config": identity(config),
            "data": terms.data.manifest_sha256,
            "threads": terms.threads,
        }
        place = join_uri(terms.out, "pace", f"{model}-{digest(made_of)[:12]}.json")
        kept = read_if_there(place)
        if kept is not None:
            return float(json.loads(kept)["seconds_per_step"])
        ends: list[float] = []
        with progress(f"time steps of {model}", config.steps, unit="steps") as advance:

            def report(done: int, metrics: dict[str, float]) -> None:
                ends.append(time.perf_counter())
                advance(1 if done else 0)

            train(_prepare(config, terms.data), report)
    seconds = float(np.median(np.diff(ends)[WARM_UP:]))
    write_bytes_atomic(place, json.dumps({"seconds_per_step": seconds}).encode())
    return seconds


def carry_out(training: Training, terms: Terms) -> None:
    """Train from where an earlier command left off; nothing where the model is there.

    Raises:
        DivergedError: The training diverged.
        InputError: The model of another training is in its place.
    """
    config = training.config
    if model_writer(config, terms.data).find_manifest() is not None:
        return
    started: tuple[int, float] | None = None
    with progress(training.name, config.steps, unit="steps") as advance:

        def report(done: int, metrics: dict[str, float]) -> None:
            nonlocal started
            if started is None:
                started = (done, time.perf_counter())
                advance(done)
                return
            advance(1, note=" ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
            if done == config.steps:
                # Of a training that was resumed, the steps before took as long as those since.
                pace = (time.perf_counter() - started[1]) / (done - started[0])
                document = {"minutes": pace * config.steps / 60}
                write_bytes_atomic(_taken_place(config), json.dumps(document).encode())

        train(_prepare(config, terms.data), report)


def minutes_taken(training: Training) -> float | None:
    """How long a training that is done took; None where that is not known."""
    kept = read_if_there(_taken_place(training.config))
    return None if kept is None else float(json.loads(kept)["minutes"])


def open_model(training: Training) -> ModelDataset:
    """The model of a training that is done."""
    return ModelDataset.open(training.config.out)


def _config(terms: Terms, model: str, *, out: str, steps: int, seed: int) -> TrainConfig:
    if model not in MODELS:
        raise InputError(f"--models has {model!r}; choose from {', '.join(MODELS)}")
    generator, changes = MODELS[model]
    preset = PRESETS[_PRESET](terms.data.uri, out, generator)
    learner: Any = dataclasses.replace(preset.learner, **changes)
    return dataclasses.replace(
        preset,
        learner=learner,
        subsets=terms.train,
        patch=terms.patch,
        steps=steps,
        seed=seed,
        preview_every=0,  # pictures would be paid from the minutes
    )


def _prepare(config: TrainConfig, data: Dataset) -> TrainingRun:
    return prepare(config, data, model_writer(config, data))


def _taken_place(config: TrainConfig) -> str:
    return f"{config.out.rstrip('/')}.json"

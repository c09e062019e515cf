"""A fair comparison: ``python -m benchmarks.quality --data URI --train 0 1 2 --validate 3 --minutes 15 60``.

Each generator trains for the same minutes, in this process, with the same threads, data and batch and its
preset ``cpu``; then it samples an image of each map of the validation subsets by its own defaults, and all
measures of ``lungforge evaluate`` compare these with the real slices. Real slices of the training subsets
are measured in the same way, as the baseline. FOLDER keeps the models, so the same command again resumes;
it gets ``quality.json``, ``curves.png`` and ``pictures.png``.
"""

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.figures import curves, pictures
from benchmarks.quality.judge import Judge, maps_of
from benchmarks.quality.results import QualityReport, TrainedModel
from benchmarks.quality.table import tables
from benchmarks.quality.trainings import (
    MODELS,
    Terms,
    Training,
    carry_out,
    minutes_taken,
    open_model,
    plan,
)
from benchmarks.steps import sample
from lungforge.ct import classes
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import index_rows
from lungforge.errors import AccessError, InputError
from lungforge.metrics.features import EFFICIENTNET_LITE0, load_extractor
from lungforge.models.base import SamplingOptions
from lungforge.models.learner import DivergedError
from lungforge.storage import join_uri, write_bytes_atomic
from services.common.progress import say


def train_all(trainings: list[Training], terms: Terms) -> list[str]:
    """Carry out all trainings; returns the names of those that diverged."""
    diverged = []
    for training in trainings:
        say(f"{training.name}: {training.config.steps} steps")
        try:
            carry_out(training, terms)
        except DivergedError as error:
            say(f"{training.name}: {error}")
            diverged.append(training.name)
    return diverged


def measure(training: Training, judge: Judge) -> tuple[TrainedModel, NDArray[np.int16]]:
    """Sample an image of each validation map with a trained model, and measure them; with the images."""
    sampler = open_model(training).sampler(SamplingOptions(), torch.device("cpu"), classes=classes.COUNT)
    seed, rows = training.config.seed, judge.validation
    identities = [(seed, "quality", row.series_uid, row.slice_index) for row in rows]
    images, seconds = sample(sampler, maps_of(rows), identities, f"sample {training.name}")
    trained = TrainedModel(
        model=training.model,
        minutes=training.minutes,
        minutes_taken=minutes_taken(training),
        seed=seed,
        steps=training.config.steps,
        sampler=sampler.sampler,
        evaluations=sampler.steps,
        guidance=sampler.guidance,
        seconds_per_image=seconds,
        quality=judge.of_generated(images),
    )
    return trained, images


def run(arguments: argparse.Namespace) -> QualityReport:
    """Train, measure, and write the results.

    Raises:
        InputError: An option cannot be.
        AccessError: The store could not be read or written.
    """
    train, validate = tuple(sorted(set(arguments.train))), tuple(sorted(set(arguments.validate)))
    both = sorted(set(train) & set(validate))
    if both:
        raise InputError(f"subset {both[0]} is in --train and in --validate; measure on other subsets")
    torch.set_num_threads(arguments.threads)
    data = Dataset.open(arguments.data, Kind.SLICES)
    # Before hours of training, as the slices may be too few to be measured.
    judge = Judge.of(
        index_rows(data, train),
        index_rows(data, validate),
        arguments.patch,
        load_extractor(EFFICIENTNET_LITE0),
    )
    terms = Terms(data, train, arguments.patch, arguments.threads, arguments.out)
    trainings = plan(terms, arguments.models, arguments.minutes, arguments.seeds)
    diverged = train_all(trainings, terms)
    models, shown = [], {}
    for training in trainings:
        if training.name in diverged:
            continue
        trained, images = measure(training, judge)
        models.append(trained)
        if training.config.seed == 0:
            # Of the same generator, the images of the longest training stay.
            shown[training.model] = (f"{training.model}, {training.minutes:g} min", images)
    say("measure real slices of the training subsets in the same way")
    report = QualityReport(
        train=train,
        validate=validate,
        patch=arguments.patch,
        size=judge.validation[0].image.shape[0],
        threads=arguments.threads,
        training_images=len(judge.training),
        images=len(judge.validation),
        scans=len(set(judge.measured.scans)),
        real=judge.of_real(),
        models=tuple(models),
        diverged=tuple(diverged),
    )
    files = {
        "quality.json": report.to_json(),
        "pictures.png": pictures(judge.validation, dict(shown.values())),
    }
    if models:
        files["curves.png"] = curves(report)
    for name, content in files.items():
        write_bytes_atomic(join_uri(arguments.out, name), content)
    return report


def main() -> int:
    """Compare the generators and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, as `lungforge preprocess` wrote them")
    parser.add_argument("--train", type=int, nargs="+", required=True, help="subsets to train on")
    parser.add_argument("--validate", type=int, nargs="+", required=True, help="subsets to measure on")
    parser.add_argument(
        "--minutes",
        type=_positive,
        nargs="+",
        required=True,
        help="of training; each is a training of its own",
    )
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="all by default"
    )
    parser.add_argument("--seeds", type=_count, default=3, help="trainings of each kind (default: 3)")
    parser.add_argument("--patch", type=_count, help="patches of this many px; whole slices when not given")
    parser.add_argument("--threads", type=_count, default=1, help="of training and sampling (default: 1)")
    parser.add_argument(
        "--out", default="quality", help="folder or URI of models and results (default: quality)"
    )
    parser.add_argument("--json", action="store_true", help="print quality.json instead of tables")
    arguments = parser.parse_args()
    try:
        report = run(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except AccessError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.to_json().decode() if arguments.json else "\n".join(tables(report)))
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())

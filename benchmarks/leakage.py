"""What leakage does to a study: ``python -m benchmarks.leakage --data URI --train 0 1 2 --test 3``.

Real slices, halved and enlarged again, are passed off as synthetic and added to the real ones:

- honest: networks learn from some scans and are tested on others; the copies are of what they learn from;
- leaking: folds are split over rows, and the copies are of all rows, so that each test row has its copy in
  training, and other rows of its scan beside it;
- leaking, nodules only: as before, but only nodules have copies, so that blur alone tells a crop's class.

Networks and measures are those of ``lungforge evaluate --downstream``. Its guards refuse such slices: that is
shown first.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from PIL import Image

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.metrics import detection
from lungforge.metrics.bootstrap import scan_weights
from lungforge.metrics.classification import classification
from lungforge.metrics.hierarchical import simultaneous_intervals
from lungforge.randomness import numpy_generator
from services.common.progress import progress, say
from services.common.ray_session import ray_session
from services.common.ray_tasks import run_tasks
from services.eval import job as evaluation
from services.eval.config import EvalConfig
from services.eval.downstream.arms import Arm, compose, split_scans
from services.eval.downstream.examples import Examples, examples_of, read_rows
from services.eval.downstream.results import Task
from services.eval.downstream.runs import DownstreamRun, RunResult, train_and_test

REAL = Arm("real", "real", augment=False)
COPIES = Arm("copies", "real + copies", ratio=1.0, synthetic=0, augment=False)
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to divide the rows: into training data, what is added to it, validation and test data."""

    scheme: str
    fold: int
    real: Examples
    added: Examples
    validation: Examples
    test: Examples


def cut(dataset: Dataset, subsets: Sequence[int] | None, patch: int | None) -> Iterator[tuple[SliceRow, Any]]:
    """The slices, or a patch of each, and where it was cut."""
    for row in read_rows(dataset, subsets):
        corner = (0, 0)
        if patch is not None:
            corner = patch_corner(row, patch, numpy_generator(0, "leakage", row.series_uid, row.slice_index))
            row = patch_at(row, patch, corner)
        yield row, corner


def halved_and_enlarged(row: SliceRow) -> SliceRow:
    """The slice at half its size, brought back to its size, bicubic both ways."""
    height, width = row.image.shape
    picture = Image.fromarray(row.image.astype(np.float32))
    small = picture.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return dataclasses.replace(row, image=np.rint(image).clip(-1024, 3071).astype(np.int16))


def trials(
    dataset: Dataset, train: Sequence[int], test: Sequence[int], patch: int | None, folds: int
) -> list[Trial]:
    """All ways to divide."""
    learnt, tested = ([row for row, _ in cut(dataset, subsets, patch)] for subsets in (train, test))
    real = examples_of(learnt)
    split = split_scans(real.scans, [len(boxes) > 0 for boxes in real.boxes], 1, 0, 0)
    honest = Trial(
        "honest",
        0,
        real.of_scans(split.training),
        examples_of(map(halved_and_enlarged, learnt)).of_scans(split.training),
        real.of_scans(split.validation),
        examples_of(tested),
    )
    everything = learnt + tested
    copies = examples_of(map(halved_and_enlarged, everything))
    divided = [honest]
    order = numpy_generator(0, "leakage", "rows").permutation(len(everything))
    for fold in range(folds):
        training = [everything[index] for place, index in enumerate(order) if place % folds != fold]
        kept = examples_of([everything[index] for place, index in enumerate(order) if place % folds == fold])
        # A fifth of the rows validates, as of the scans in the honest study.
        learns, validates = (
            examples_of([row for place, row in enumerate(training) if (place % 5 == 0) == validating])
            for validating in (False, True)
        )
        divided.append(Trial("leaking", fold, learns, copies, validates, kept))
        divided.append(Trial("leaking, nodules only", fold, learns, _nodules_only(copies), validates, kept))
    return divided


def _nodules_only(examples: Examples) -> Examples:
    kept = examples.crop_is_nodule
    return dataclasses.replace(
        examples,
        crops=examples.crops[kept],
        crop_is_nodule=examples.crop_is_nodule[kept],
        crop_pictures=examples.crop_pictures[kept],
    )


def train_trial(run: DownstreamRun, trial: Trial) -> RunResult:
    """Train and test a network of a trial."""
    torch.set_num_threads(1)
    added = trial.added if run.arm.ratio else None
    # Copies of all rows: the mistake in the leaking schemes.
    scans = frozenset(trial.real.scans) | frozenset(trial.added.scans)
    training = compose(run.arm, trial.real, added, scans, run.job_seed)
    return train_and_test(run, training, trial.validation, trial.test, torch.device("cpu"))


def measures(
    task: "Task", result: "RunResult", test: Examples, generator: np.random.Generator
) -> dict[str, Any]:
    """Each measure over all scans, and over bootstrap draws of them, ``[DRAWS + 1]``."""
    if task == "classification":
        scans = [test.scans[number] for number in test.crop_pictures.tolist()]
        weights = scan_weights(scans, DRAWS, generator)
        measured = classification(test.crop_is_nodule, result.scores, weights)
        return {"accuracy": measured.accuracy, "balanced accuracy": measured.balanced_accuracy}
    truths = [np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in test.boxes]
    weights = scan_weights(test.scans, DRAWS, generator)
    return {
        "AP50": detection.average_precision(detection.match(result.detections, truths, 0.5), weights),
    }


def compare(
    task: "Task", scheme: str, pairs: "Sequence[tuple[Trial, RunResult, RunResult]]"
) -> list[dict[str, Any]]:
    """A row a measure: with and without the copies, and the difference with its interval."""
    real: list[dict[str, NDArray[np.float64]]] = []
    copies: list[dict[str, NDArray[np.float64]]] = []
    for trial, without, with_copies in pairs:
        for values, result in ((real, without), (copies, with_copies)):
            # The same draws of scans for all networks with one test set.
            generator = numpy_generator(0, "leakage", task, scheme, trial.fold)
            values.append(measures(task, result, trial.test, generator))
    rows = []
    for name in real[0]:
        sides = np.stack([np.stack([each[name] for each in side]) for side in (copies, real)])
        scans = len(set(pairs[0][0].test.scans))
        (interval,) = simultaneous_intervals(sides, [(0, 1)], scans, numpy_generator(0, "leakage"))
        rows.append(
            {
                "scheme": scheme,
                "measure": name,
                "networks": len(pairs),
                "real": float(sides[1, :, 0].mean()),
                "with_copies": float(sides[0, :, 0].mean()),
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "draws": interval.draws,
            }
        )
    return rows


def refusal(dataset: Dataset, train: Sequence[int], test: Sequence[int], patch: int | None) -> str:
    """What ``lungforge evaluate`` says to the copies, passed off as samples of a model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = DatasetWriter(
            str(folder / "model"), Kind.MODEL, {"subsets": list(train)}, 0, (dataset.parent(),)
        )
        model.commit([model.write_file("config.json", b"{}")], {"patch": patch})
        made = Dataset.open(model.uri)
        writer = DatasetWriter(str(folder / "copies"), Kind.SAMPLES, {}, 0, (made.parent(), dataset.parent()))
        rows = [
            _sample(halved_and_enlarged(row), corner, number, made.manifest_sha256)
            for number, (row, corner) in enumerate(cut(dataset, train, patch))
        ]
        writer.commit([writer.write_part("0", table_from_rows(Kind.SAMPLES, rows))])
        config = EvalConfig(
            real=dataset.uri, synthetic=(writer.uri,), out=str(folder / "report"), subsets=tuple(test)
        )
        try:
            evaluation.run(config)
        except InputError as error:
            return str(error).replace(f"{folder}/", "")
    raise AssertionError("the guards let copies of real slices through")


def _sample(row: SliceRow, corner: tuple[int, int], number: int, model_sha256: str) -> dict[str, Any]:
    return {
        "sample_id": f"copy-{number:05}",
        "source_series_uid": row.series_uid,
        "source_slice_index": row.slice_index,
        "source_top": corner[0],
        "source_left": corner[1],
        "subset": row.subset,
        "replicate": 0,
        "seed": 0,
        "edit": "none",
        "inpainted": False,
        "sampler": "halved and enlarged",
        "steps": 1,
        "guidance": 1.0,
        "model_sha256": model_sha256,
        "spacing_mm": list(row.spacing_mm),
        "image": row.image,
        "label": row.label,
        "nodules": list(row.nodules),
    }


def main() -> int:
    """Show the refusal, measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leakage", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, as `lungforge preprocess` made them")
    parser.add_argument("--train", type=int, nargs="+", required=True, help="subsets to learn from")
    parser.add_argument("--test", type=int, nargs="+", required=True, help="subsets to test on")
    parser.add_argument("--patch", type=int, help="cut patches of this many px; whole slices when not given")
    parser.add_argument("--preset", default="cpu", choices=["tiny", "cpu", "published"], help="networks")
    parser.add_argument("--folds", type=int, default=3, help="over rows (default: 3)")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each fold (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="networks at a time (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        if arguments.seeds < 2:
            raise InputError(f"--seeds is {arguments.seeds}; give at least 2, as intervals are over networks")
        dataset = Dataset.open(arguments.data, Kind.SLICES)
        with ray_session(arguments.workers):
            refused = refusal(dataset, arguments.train, arguments.test, arguments.patch)
            say(f"refused: {refused}")
            rows = _measured(dataset, arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"refused": refused, "rows": rows}))
        return 0
    print(f"With the guards on: {refused}\n")
    print("| rows | measure | real | with copies | difference | 95 % interval | networks |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['scheme']} | {row['measure']} | {row['real']:.3f} | {row['with_copies']:.3f} | "
            f"{row['difference']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} | {row['networks']} |"
        )
    return 0


def _measured(dataset: Dataset, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    remote = ray.remote(train_trial)
    divided = trials(dataset, arguments.train, arguments.test, arguments.patch, arguments.folds)
    wanted: list[tuple[Task, Trial, int]] = [
        (task, trial, seed)
        for task in ("classification", "localisation")
        for trial in divided
        # What has copies of nodules only is the same to a detector, which learns from nodules alone.
        if task == "classification" or trial.scheme != "leaking, nodules only"
        for seed in range(arguments.seeds)
    ]
    shared = {id(trial): ray.put(trial) for trial in divided}
    queue = [(index, arm) for index in range(len(wanted)) for arm in (REAL, COPIES)]

    def start(item: tuple[int, Arm]) -> Any:
        index, arm = item
        task, trial, seed = wanted[index]
        ratio = arm.ratio * len(trial.added.pictures) / len(trial.real.pictures)
        arm = dataclasses.replace(arm, ratio=ratio)
        run = DownstreamRun(task, arguments.preset, arm, 1, 0, seed, trial.fold)
        return remote.remote(run, shared[id(trial)])

    results: dict[tuple[int, str], RunResult] = {}
    with progress("networks", len(queue), unit="networks") as advance:
        for done in run_tasks(start, queue, arguments.workers):
            index, arm = done.item
            results[index, arm.key] = done.result
            advance()
    rows = []
    for task in ("classification", "localisation"):
        for scheme in ("honest", "leaking", "leaking, nodules only"):
            pairs = [
                (trial, results[index, "real"], results[index, "copies"])
                for index, (of_task, trial, _) in enumerate(wanted)
                if (of_task, trial.scheme) == (task, scheme)
            ]
            if pairs:
                rows += compare(task, scheme, pairs)
    return rows


if __name__ == "__main__":
    sys.exit(main())

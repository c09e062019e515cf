"""The downstream tasks under Ray: a task for each network, whose result is kept, so that none runs twice."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from lungforge.datasets import Dataset, DatasetWriter, Part
from lungforge.datasets.slices import SliceRow
from services.common import telemetry
from services.common.progress import progress, say
from services.common.ray_tasks import result_of, run_tasks
from services.eval.config import EvalConfig
from services.eval.downstream.arms import Arm, all_arms
from services.eval.downstream.classifier import CLASSIFIERS
from services.eval.downstream.detector import DETECTORS
from services.eval.downstream.examples import Examples, as_patches, examples_of, read_rows
from services.eval.downstream.froc import score_arms
from services.eval.downstream.plan import check_examples, splits_of
from services.eval.downstream.results import DownstreamResults, Task
from services.eval.downstream.runs import DownstreamRun, RunResult, read_result, train_network
from services.eval.downstream.tabulate import tabulate
from services.eval.downstream.training import TrainingSchedule


@dataclass(frozen=True)
class Prepared:
    """What the networks learn from and are tested on.

    Attributes:
        real: Reference to the real slices to learn from, in Ray's object store, where every task reads them
            without a copy.
        copies: To copies of them.
        synthetic: To each set of synthetic slices.
        test: To the test set.
        tested: The test set itself.
        validation_scans: How many training scans are held out for validation, of each fold.
    """

    real: Any
    copies: Any
    synthetic: tuple[Any, ...]
    test: Any
    tested: Examples
    validation_scans: tuple[int, ...]

    def added(self, arm: Arm) -> Any:
        """What an arm adds to the real slices, or takes in their place."""
        if not arm.ratio:
            return None
        return self.copies if arm.synthetic is None else self.synthetic[arm.synthetic]


def prepare(config: EvalConfig, patch: int | None, real: Dataset, sets: Mapping[str, Dataset]) -> Prepared:
    """Cut the examples, inside a Ray session, of a plan that passed ``check_plan``.

    Args:
        config: The job's, with the subsets to train on.
        patch: Side of the generated patches, in px; None for whole slices.
        real: The real slices.
        sets: The sets of synthetic slices, by name.

    Raises:
        InputError: No network could learn from them.
    """
    say("downstream tasks: preparing training and test examples")
    copies = tuple(range(1, math.ceil(max(config.ratios)) + 1))
    slices = ray.put(real)
    cut_real = _cut.remote(slices, config.train_subsets, patch, config.seed, (0,), False)
    cut_copies = _cut.remote(slices, config.train_subsets, patch, config.seed, copies, False)
    synthetic = tuple(_cut.remote(dataset, None, None, config.seed, (0,), False) for dataset in sets.values())
    cut_test = _cut.remote(slices, config.subsets, patch, config.seed, (0,), True)
    training, test = result_of(cut_real), result_of(cut_test)
    check_examples(config, training, test, dict(zip(sets, map(result_of, synthetic), strict=True)))
    splits = splits_of(config, training.scans, [len(boxes) > 0 for boxes in training.boxes])
    return Prepared(
        real=cut_real,
        copies=cut_copies,
        synthetic=synthetic,
        test=cut_test,
        tested=test,
        validation_scans=tuple(len(split.validation) for split in splits),
    )


def run(
    config: EvalConfig,
    patch: int | None,
    real: Dataset,
    data: Prepared,
    names: Sequence[str],
    writer: DatasetWriter,
) -> tuple[DownstreamResults, list[Part]]:
    """Train and test every network, inside a Ray session; those whose results are kept are not done again.

    Args:
        config: The job's, with the subsets to train on.
        patch: Side of the generated patches, in px; None for whole slices.
        real: The real slices.
        data: What :func:`prepare` gave.
        names: Of the sets of synthetic slices.
        writer: Of the report, beside which the networks' results are kept.

    Returns:
        The results, and the files of the single networks.
    """
    assert config.train_subsets is not None, "the configuration asks for them"
    arms = all_arms(names, config.ratios)
    runs = [
        DownstreamRun(task, config.downstream, arm, config.folds, fold, seed, config.seed)
        for task, seed, fold, arm in itertools.product(
            config.tasks, range(config.seeds), range(config.folds), arms
        )
    ]
    results, parts = _train(runs, data, writer, config.workers, config.gpus_per_network)
    tasks = (
        tabulate(
            task,
            _network(task, config.downstream),
            _schedule(task, config.downstream).steps,
            arms,
            results,
            data.validation_scans,
            data.tested,
            config.seed,
        )
        for task in config.tasks
    )
    froc = None
    if config.froc:
        froc = score_arms(real, config.subsets, arms, results, data.tested, config.seed, config.workers)
    return (
        DownstreamResults(
            preset=config.downstream,
            train_subsets=config.train_subsets,
            folds=config.folds,
            seeds=config.seeds,
            patch_px=patch,
            tasks=tuple(tasks),
            froc=froc,
        ),
        parts,
    )


@ray.remote
def _cut(
    dataset: Dataset,
    subsets: Sequence[int] | None,
    patch: int | None,
    seed: int,
    copies: Sequence[int],
    testing: bool,
) -> Examples:
    """Cut the examples of a dataset; a test set has pictures without nodules beside those with."""

    def rows() -> Iterator[SliceRow]:
        for copy in copies:
            yield from as_patches(read_rows(dataset, subsets), patch, seed, copy=copy)
        if testing and patch is not None:
            yield from as_patches(read_rows(dataset, subsets), patch, seed, copy=0, without_nodules=True)

    return examples_of(rows())


def _train(
    runs: Sequence[DownstreamRun], data: Prepared, writer: DatasetWriter, workers: int, gpus: float
) -> tuple[dict[DownstreamRun, RunResult], list[Part]]:
    """Do every run without a kept result, at most ``workers`` at a time, and read the results of all."""
    kept = {run: result for run in runs if (result := read_result(writer, run)) is not None}
    missing = [run for run in runs if run not in kept]
    task = train_network.options(num_cpus=1, num_gpus=gpus)

    def start(run: DownstreamRun) -> Any:
        return task.remote(writer, run, data.real, data.added(run.arm), data.test, gpus > 0)

    with progress(
        "networks", len(runs), done=len(kept), unit="networks", start="starting the workers"
    ) as advance:
        for done in run_tasks(start, missing, workers):
            run = done.item
            telemetry.TASKS.inc()
            result = read_result(writer, run)
            assert result is not None, f"{run.name} was written a moment ago"
            kept[run] = result
            advance(note=run.name)
    return {run: kept[run][0] for run in runs}, [kept[run][1] for run in runs]


def _schedule(task: Task, preset: str) -> TrainingSchedule:
    return (CLASSIFIERS[preset] if task == "classification" else DETECTORS[preset]).schedule


def _network(task: Task, preset: str) -> str:
    """What is trained, in words, for the report."""
    if task == "classification":
        classifier = CLASSIFIERS[preset]
        return (
            f"SE-ResNet-{classifier.depth} (mmpretrain), first stage {classifier.base_channels} wide, crops "
            f"of 32 px enlarged to {classifier.input_px}, {classifier.schedule.steps} steps of "
            f"{classifier.schedule.pictures}, from random weights"
        )
    detector = DETECTORS[preset]
    return (
        f"Faster R-CNN, {detector.backbone['type']}-{detector.backbone['depth']} with a feature pyramid "
        f"(mmdet), pictures enlarged {detector.enlarge} times, {detector.schedule.steps} steps of "
        f"{detector.schedule.pictures}, from random weights"
    )

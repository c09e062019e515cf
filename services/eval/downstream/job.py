"""The downstream tasks under Ray: each network is a task of its own, and kept, so that none is done twice."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from lungforge.datasets import Dataset, DatasetWriter, Part
from lungforge.errors import InputError
from lungforge.metrics.leakage import find_leak
from services.common.progress import progress, say
from services.eval.config import EvalConfig
from services.eval.downstream.arms import Arm, all_arms, require_enough, training_scans
from services.eval.downstream.classifier import CLASSIFIERS
from services.eval.downstream.detector import DETECTORS
from services.eval.downstream.examples import Examples, as_patches, examples_of, read_rows
from services.eval.downstream.results import tabulate, verdict
from services.eval.downstream.runs import Cell, find, run_cell
from services.eval.part_tasks import as_done


@dataclass(frozen=True)
class _Data:
    """References to the examples, in Ray's object store, where every task reads them without a copy."""

    real: Any
    copies: Any
    synthetic: tuple[Any, ...]
    test: Any


def run(
    config: EvalConfig,
    patch: int | None,
    real: Dataset,
    sets: Sequence[tuple[str, Dataset]],
    writer: DatasetWriter,
) -> tuple[dict[str, Any], list[Part]]:
    """Train and test every network, inside a Ray session; those that are there are not done again.

    Args:
        config: The job's, with the subsets to train on.
        patch: Side of the patches that the generators draw, in px; None for whole slices.
        real: The real slices.
        sets: The sets of synthetic slices, with their names.
        writer: Of the report, beside which the networks' findings are kept.

    Returns:
        The tables and the verdict, as JSON, and the files of the findings.

    Raises:
        InputError: A scan is both trained on and tested on; there are too few synthetic slices.
    """
    assert config.train_subsets is not None, "the configuration asks for them"
    names = [name for name, _ in sets]
    arms = all_arms(names, config.ratios)
    say("downstream tasks: cutting what is trained on and tested on")
    data, test = _gather(config, patch, real, sets)
    cells = [
        Cell(task, config.downstream, arm, config.folds, fold, seed, config.seed)
        for task, seed, fold, arm in itertools.product(
            config.tasks, range(config.seeds), range(config.folds), arms
        )
    ]
    found, parts = _do(cells, data, writer, config.workers, config.gpus_per_network)
    tables = [tabulate(task, arms, found, test, config.seed) for task in config.tasks]
    document = {
        "preset": config.downstream,
        "networks": _networks(config),
        "train_subsets": list(config.train_subsets),
        "folds": config.folds,
        "seeds": config.seeds,
        "patch_px": patch,
        "verdict": [sentence for table in tables for sentence in verdict(table, arms, names)],
        "tasks": tables,
    }
    return document, parts


def _gather(
    config: EvalConfig, patch: int | None, real: Dataset, sets: Sequence[tuple[str, Dataset]]
) -> tuple[_Data, Examples]:
    most = max(config.ratios)
    copies = tuple(range(1, math.ceil(most) + 1))
    references = _Data(
        real=_cut.remote(real, config.train_subsets, patch, config.seed, (0,), False),
        copies=_cut.remote(real, config.train_subsets, patch, config.seed, copies, False),
        synthetic=tuple(_cut.remote(dataset, None, None, config.seed, (0,), False) for _, dataset in sets),
        test=_cut.remote(real, config.subsets, patch, config.seed, (0,), True),
    )
    own, test = ray.get([references.real, references.test])
    leak = find_leak(test.scans, [], own.scans)
    if leak:
        raise InputError(
            f"{len(leak.training)} scans are in --train-subsets and in the test set, first "
            f"{leak.training[0]}; give subsets that have no scan in common"
        )
    folds = [training_scans(own.scans, config.folds, fold, config.seed) for fold in range(config.folds)]
    for (name, _), reference in zip(sets, references.synthetic, strict=True):
        require_enough(name, ray.get(reference), own, config.ratios, folds)
    return references, test


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

    def rows() -> Any:
        for copy in copies:
            yield from as_patches(read_rows(dataset, subsets), patch, seed, copy=copy)
        if testing and patch is not None:
            yield from as_patches(read_rows(dataset, subsets), patch, seed, copy=0, without_nodules=True)

    return examples_of(rows())


def _do(
    cells: Sequence[Cell], data: _Data, writer: DatasetWriter, workers: int, gpus: float
) -> tuple[dict[Cell, Any], list[Part]]:
    """Have every cell done, at most ``workers`` at a time, and read what all have found."""
    present = {cell: result for cell in cells if (result := find(writer, cell)) is not None}
    missing = [cell for cell in cells if cell not in present]
    task = run_cell.options(num_cpus=1, num_gpus=gpus)

    def start(cell: Cell) -> Any:
        return task.remote(writer, cell, data.real, _added(cell.arm, data), data.test, gpus > 0)

    with progress("networks", len(cells), done=len(present), unit="networks") as advance:
        for cell, _ in as_done(start, missing, workers):
            result = find(writer, cell)
            assert result is not None, f"{cell.name} was written a moment ago"
            present[cell] = result
            advance(note=cell.name)
    outcomes = {cell: present[cell][0] for cell in cells}
    return outcomes, [present[cell][1] for cell in cells]


def _added(arm: Arm, data: _Data) -> Any:
    if not arm.ratio:
        return None
    return data.copies if arm.synthetic is None else data.synthetic[arm.synthetic]


def _networks(config: EvalConfig) -> dict[str, Any]:
    """What was trained, in words, for the report."""
    described = {}
    if "classification" in config.tasks:
        classifier = CLASSIFIERS[config.downstream]
        described["classification"] = (
            f"SE-ResNet-{classifier.depth} (mmpretrain), first stage {classifier.base_channels} wide, crops "
            f"of 32 px enlarged to {classifier.input_px}, {classifier.schedule.steps} steps of "
            f"{classifier.schedule.pictures}, from random weights"
        )
    if "localisation" in config.tasks:
        detector = DETECTORS[config.downstream]
        described["localisation"] = (
            f"Faster R-CNN, {detector.backbone['type']}-{detector.backbone['depth']} with a feature pyramid "
            f"(mmdet), pictures enlarged {detector.enlarge} times, {detector.schedule.steps} steps of "
            f"{detector.schedule.pictures}, from random weights"
        )
    return described

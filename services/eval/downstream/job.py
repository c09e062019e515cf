"""The downstream tasks under Ray: each network is a task of its own, and kept, so that none is done twice."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from lungforge.errors import InputError
from lungforge.metrics.leakage import find_leak
from lungforge.store import Dataset, DatasetWriter, Part
from services.eval.downstream.arms import Arm, all_arms, require_enough
from services.eval.downstream.cells import Cell, Task, find, run_cell
from services.eval.downstream.classifier import CLASSIFIERS
from services.eval.downstream.detector import DETECTORS
from services.eval.downstream.examples import Examples, as_patches, examples_of, read_rows
from services.eval.downstream.table import tabulate, verdict
from services.progress import progress, say


@dataclass(frozen=True)
class Downstream:
    """What is to be trained and tested.

    Attributes:
        preset: Of the networks.
        tasks: Which.
        train_subsets: Subsets of the real slices that are trained on.
        test_subsets: Subsets that are tested on; all others when None.
        ratios: Synthetic pictures per real one.
        folds: Into how many the scans that are trained on are divided; each network leaves one out.
        seeds: Networks of each arm and fold.
        seed: Of the job.
        patch: Side of the patches that the generators draw, in px; None for whole slices.
    """

    preset: str
    tasks: tuple[Task, ...]
    train_subsets: tuple[int, ...]
    test_subsets: tuple[int, ...] | None
    ratios: tuple[float, ...]
    folds: int
    seeds: int
    seed: int
    patch: int | None


@dataclass(frozen=True)
class _Data:
    """References to the examples, in Ray's object store, where every task reads them without a copy."""

    real: Any
    copies: Any
    synthetic: tuple[Any, ...]
    test: Any


def run(
    wanted: Downstream,
    real: Dataset,
    sets: Sequence[tuple[str, Dataset]],
    writer: DatasetWriter,
    *,
    workers: int,
    gpus_per_worker: float,
) -> tuple[dict[str, Any], list[Part]]:
    """Train and test every network, inside a Ray session; those that are there are not done again.

    Args:
        wanted: What.
        real: The real slices.
        sets: The sets of synthetic slices, with their names.
        writer: Of the report, beside which the networks' findings are kept.
        workers: Networks that are trained at a time.
        gpus_per_worker: Share of a GPU for each.

    Returns:
        The tables and the verdict, as JSON, and the files of the findings.

    Raises:
        InputError: A scan is both trained on and tested on; there are too few synthetic slices.
    """
    names = [name for name, _ in sets]
    arms = all_arms(names, wanted.ratios)
    say("downstream tasks: cutting what is trained on and tested on")
    data, test = _gather(wanted, real, sets)
    cells = [
        Cell(task, wanted.preset, arm, wanted.folds, fold, seed, wanted.seed)
        for task, seed, fold, arm in itertools.product(
            wanted.tasks, range(wanted.seeds), range(wanted.folds), arms
        )
    ]
    found, parts = _do(cells, data, writer, workers, gpus_per_worker)
    tables = [tabulate(task, arms, found, test, wanted.seed) for task in wanted.tasks]
    document = {
        "preset": wanted.preset,
        "networks": _networks(wanted),
        "train_subsets": list(wanted.train_subsets),
        "folds": wanted.folds,
        "seeds": wanted.seeds,
        "patch_px": wanted.patch,
        "verdict": [sentence for table in tables for sentence in verdict(table, arms, names)],
        "tasks": tables,
    }
    return document, parts


def _gather(wanted: Downstream, real: Dataset, sets: Sequence[tuple[str, Dataset]]) -> tuple[_Data, Examples]:
    most = max(wanted.ratios)
    copies = range(1, -int(-most // 1) + 1)
    references = _Data(
        real=_cut.remote(real, wanted.train_subsets, wanted.patch, wanted.seed, (0,), False),
        copies=_cut.remote(real, wanted.train_subsets, wanted.patch, wanted.seed, tuple(copies), False),
        synthetic=tuple(_cut.remote(dataset, None, None, wanted.seed, (0,), False) for _, dataset in sets),
        test=_cut.remote(real, wanted.test_subsets, wanted.patch, wanted.seed, (0,), True),
    )
    own, test = ray.get([references.real, references.test])
    leak = find_leak(test.scans, [], own.scans)
    if leak:
        raise InputError(
            f"{len(leak.training)} scans are in --train-subsets and in the test set, first "
            f"{leak.training[0]}; give subsets that have no scan in common"
        )
    for (name, _), reference in zip(sets, references.synthetic, strict=True):
        require_enough(name, ray.get(reference), own, wanted.ratios)
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
    running: dict[Any, Cell] = {}
    with progress("networks", len(cells), done=len(present), unit="networks") as advance:
        while missing or running:
            while missing and len(running) < workers:
                cell = missing.pop(0)
                reference = task.remote(writer, cell, data.real, _added(cell.arm, data), data.test, gpus > 0)
                running[reference] = cell
            (done,), _ = ray.wait(list(running), num_returns=1)
            cell = running.pop(done)
            ray.get(done)
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


def _networks(wanted: Downstream) -> dict[str, Any]:
    """What was trained, in words, for the report."""
    described = {}
    if "classification" in wanted.tasks:
        classifier = CLASSIFIERS[wanted.preset]
        described["classification"] = (
            f"SE-ResNet-{classifier.depth} (mmpretrain), first stage {classifier.base_channels} wide, crops "
            f"of 32 px enlarged to {classifier.input_px}, {classifier.schedule.steps} steps of "
            f"{classifier.schedule.pictures}, from random weights"
        )
    if "localisation" in wanted.tasks:
        detector = DETECTORS[wanted.preset]
        described["localisation"] = (
            f"Faster R-CNN, {detector.backbone['type']}-{detector.backbone['depth']} with a feature pyramid "
            f"(mmdet), pictures enlarged {detector.enlarge} times, {detector.schedule.steps} steps of "
            f"{detector.schedule.pictures}, from random weights"
        )
    return described

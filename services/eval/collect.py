"""Reading the datasets of an evaluation by Ray tasks, and putting together what they return."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from lungforge.datasets import Dataset, Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.leakage import EACH_SCAN, Patients
from lungforge.metrics.near_duplicates import Resemblance
from services.common import telemetry
from services.common.progress import progress
from services.common.ray_tasks import Done, run_tasks
from services.eval.config import EvalConfig
from services.eval.feature_cache import Network
from services.eval.lineage import SampleLineage, slices_behind
from services.eval.part_tasks import among, check_real_part, read_real_part, read_synthetic_part
from services.eval.records import (
    Key,
    MeasuredSlices,
    RealCheck,
    RealPart,
    RealPool,
    RealSource,
    SyntheticPart,
    SyntheticSource,
    join,
)

#: Rows of a set's grid of images.
GRID_ROWS = 8
#: Real slices that are looked for as if they were synthetic.
CHECKED_REAL = 200


@dataclasses.dataclass(frozen=True)
class RealSlices:
    """All real slices of an evaluation.

    Attributes:
        compared: Those that are compared with.
        pool: All that a synthetic one might have been copied from.
        parts: What was read of each part, beside the digest of its dataset's manifest.
    """

    compared: MeasuredSlices
    pool: RealPool
    parts: tuple[tuple[str, RealPart], ...]

    def training(self, lineage: SampleLineage) -> tuple[NDArray[np.float32], tuple[Key, ...]]:
        """What a generator was trained on: features ``[T, D]``, and the slice that each is."""
        used = {dataset.manifest_sha256: subsets for dataset, subsets in lineage.training}
        features = [np.empty((0, self.compared.features.shape[1]), dtype=np.float32)]
        keys: list[Key] = []
        for digest, part in self.parts:
            if digest not in used:
                continue
            subsets = used[digest]
            seen = np.full(len(part.rows), True)
            if subsets is not None:
                seen = np.isin(part.subsets[part.rows], subsets)
            features.append(part.features[seen])
            keys += [part.keys[row] for row in part.rows[seen]]
        return np.concatenate(features), tuple(keys)

    def medians(self, keys: Sequence[Key]) -> NDArray[np.float32]:
        """Median HU of each class in some slices, ``[K, classes]``; NaN where they are not available."""
        of_slice = {
            key: medians
            for _, part in self.parts
            for key, medians in zip(part.keys, part.medians, strict=True)
        }
        missing = np.full(self.compared.medians.shape[1], np.nan, dtype=np.float32)
        return np.stack([of_slice.get(key, missing) for key in keys])


def read_real(
    config: EvalConfig,
    network: Network,
    real: Dataset,
    lineages: Sequence[SampleLineage],
    cut: Cut | None,
    patients: Patients = EACH_SCAN,
    second: Network | None = None,
) -> RealSlices:
    """Read the slices that are compared with, and all that the generators and the maps came from.

    Args:
        config: The job's.
        network: The extractor.
        real: The slices that are compared with.
        lineages: Of the sets of synthetic slices.
        cut: How patches are cut from the slices; None for whole slices.
        patients: Which scans are of one patient.
        second: Another extractor, for the slices that are compared with.
    """
    datasets = slices_behind(real, lineages)
    # Only whole slices are segmented. Patches are compared with patches, if with anything.
    whole = [lineage for lineage in lineages if not lineage.on_patches]
    alike = whole if cut is None else lineages
    work: list[tuple[str, Any, Part]] = []
    for digest, dataset in datasets.items():
        compared = config.subsets if digest == real.manifest_sha256 else ()
        embedded = _union([compared, *_trained_on(dataset, alike)])
        # Once in the object store: a manifest lists thousands of parts, and every task would carry it.
        source = ray.put(RealSource(dataset, compared, embedded, network, bool(whole), cut, second))
        work += [(digest, source, part) for part in dataset.parts if part.rows]
    task = read_real_part.options(num_returns=3, num_gpus=config.gpus_per_worker)
    done = run_in_order("real slices", task, [(source, part) for _, source, part in work], config.workers)
    parts: list[RealPart] = [each.result for each in done]
    keys = tuple(key for part in parts for key in part.keys)
    scans = [patients.patient_of(series) for series, _ in keys]
    rows = [(index, row) for index, part in enumerate(parts) for row in range(len(part.keys))]
    pool = RealPool(
        keys=keys,
        patients=np.unique(np.asarray(scans), return_inverse=True)[1].astype(np.int64),
        thumbnails=np.concatenate([part.thumbnails for part in parts]),
        rows=np.asarray(rows, dtype=np.int64),
        cut=cut,
        images=tuple(each.kept[0] for each in done),
        cells=() if cut is None else tuple(each.kept[1] for each in done),
    )
    return RealSlices(
        compared=join([part.measured for part in parts if part.measured is not None]),
        pool=pool,
        parts=tuple((digest, part) for (digest, *_), part in zip(work, parts, strict=True)),
    )


def check_real(config: EvalConfig, real: Dataset, slices: RealSlices) -> tuple[Resemblance, ...]:
    """How like slices of other patients real ones are, by the search for near-duplicates: its false alarms.

    Args:
        config: The job's.
        real: The slices that are compared with; some of them are looked for, spread evenly.
        slices: All real slices.
    """
    of_real = [part for digest, part in slices.parts if digest == real.manifest_sha256]
    parts = [part for part in real.parts if part.rows]
    places = [
        (index, row)
        for index, part in enumerate(of_real)
        for row in np.flatnonzero(among(part.subsets, config.subsets)).tolist()
    ]
    chosen: dict[int, list[int]] = {}
    for number in sorted({place * len(places) // CHECKED_REAL for place in range(CHECKED_REAL)}):
        index, row = places[number]
        chosen.setdefault(index, []).append(row)
    source = ray.put(RealCheck(real, slices.pool))
    work = [(source, parts[index], tuple(rows)) for index, rows in chosen.items()]
    done = run_in_order("real slices as a check", check_real_part, work, config.workers)
    return tuple(resemblance for each in done for resemblance in each.result)


def read_synthetic(
    config: EvalConfig,
    network: Network,
    name: str,
    lineage: SampleLineage,
    pool: RealPool,
    second: Network | None = None,
) -> list[SyntheticPart]:
    """Read a set of synthetic slices.

    Args:
        config: The job's.
        network: The extractor.
        name: What the report calls the set.
        lineage: The set, and where it comes from.
        pool: The real slices.
        second: Another extractor.
    """
    dataset = lineage.samples
    parts = [part for part in dataset.parts if part.rows]
    source = ray.put(SyntheticSource(dataset, pool, network, not lineage.on_patches, second))
    rows = _grid_rows(parts)
    task = read_synthetic_part.options(num_gpus=config.gpus_per_worker)
    work = [(source, part, rows[part.path]) for part in parts]
    return [each.result for each in run_in_order(name, task, work, config.workers)]


def run_in_order(title: str, task: Any, work: Sequence[tuple[Any, ...]], workers: int) -> list[Done[int]]:
    """Run a task for each tuple of arguments; what they gave, in that order."""
    results: dict[int, Done[int]] = {}
    with progress(title, len(work), unit="parts", start="loading the network of the features") as advance:
        for done in run_tasks(lambda index: task.remote(*work[index]), range(len(work)), workers):
            results[done.item] = done
            telemetry.TASKS.inc()
            advance()
    return [results[index] for index in range(len(work))]


def _trained_on(dataset: Dataset, lineages: Iterable[SampleLineage]) -> list[Sequence[int] | None]:
    """For each generator that was trained on a dataset, the subsets that it saw; None for all."""
    return [
        subsets
        for lineage in lineages
        for used, subsets in lineage.training
        if used.manifest_sha256 == dataset.manifest_sha256
    ]


def _union(selections: Sequence[Sequence[int] | None]) -> tuple[int, ...] | None:
    """All subsets that are in one of the selections; None, which is all, if one of them is."""
    united: set[int] = set()
    for subsets in selections:
        if subsets is None:
            return None
        united.update(subsets)
    return tuple(sorted(united))


def _grid_rows(parts: Sequence[Part]) -> dict[str, tuple[int, ...]]:
    """For each part the rows whose images are shown, spread evenly over the dataset."""
    total = sum(part.rows for part in parts)
    wanted = {place * total // GRID_ROWS for place in range(GRID_ROWS)}
    chosen, first = {}, 0
    for part in parts:
        chosen[part.path] = tuple(sorted(row - first for row in wanted if first <= row < first + part.rows))
        first += part.rows
    return chosen

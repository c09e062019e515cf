"""Reading the datasets of an evaluation by Ray tasks, and putting together what they found."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import ray

from lungforge.datasets import Dataset, Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.features import Description
from services.common.progress import progress
from services.eval.config import EvalConfig
from services.eval.feature_cache import Network
from services.eval.lineage import Origin
from services.eval.part_tasks import in_order, read_real_part, read_synthetic_part
from services.eval.records import Key, Measured, RealPart, RealPool, SyntheticPart, join

#: Rows of a set's grid of pictures.
GRID_ROWS = 8


@dataclasses.dataclass(frozen=True)
class RealSlices:
    """All real slices of an evaluation.

    Attributes:
        compared: Those that are compared with.
        pool: All that a synthetic one might have been copied from.
        parts: What was found in each part, beside the digest of its dataset's manifest.
    """

    compared: Measured
    pool: RealPool
    parts: tuple[tuple[str, RealPart], ...]

    def training(self, origin: Origin) -> tuple[np.ndarray, tuple[Key, ...]]:
        """What a generator was trained on: features ``[T, D]``, and the slice that each is."""
        used = {dataset.manifest_sha256: subsets for dataset, subsets in origin.training}
        features = [np.empty((0, self.compared.features.shape[1]), dtype=np.float32)]
        keys: list[Key] = []
        for digest, part in self.parts:
            if digest not in used:
                continue
            subsets = used[digest]
            mine = np.full(len(part.rows), True)
            if subsets is not None:
                mine = np.isin(part.subsets[part.rows], subsets)
            features.append(part.features[mine])
            keys += [part.keys[row] for row in part.rows[mine]]
        return np.concatenate(features), tuple(keys)


def network_of(config: EvalConfig, description: Description) -> Network:
    """What the tasks embed with."""
    return Network(description, config.weights, config.features)


def read_real(
    config: EvalConfig, network: Network, real: Dataset, origins: Sequence[Origin], cut: Cut | None
) -> RealSlices:
    """Read the slices that are compared with, and all that the generators and the maps came from."""
    seen = [
        dataset for origin in origins for dataset in (*origin.sources, *(used for used, _ in origin.training))
    ]
    datasets = {dataset.manifest_sha256: dataset for dataset in (real, *seen)}.values()
    # Body and lungs are looked for in whole slices only. Patches are held against patches, if anything.
    whole = [origin for origin in origins if not origin.on_patches]
    alike = whole if cut is None else origins
    work = []
    for dataset in datasets:
        compared = config.subsets if dataset.manifest_sha256 == real.manifest_sha256 else ()
        embedded = _union([compared, *_trained_on(dataset, alike)])
        for part in dataset.parts:
            if part.rows:
                work.append((dataset, part, compared, embedded, network, bool(whole), cut))
    task = read_real_part.options(num_returns=2, num_gpus=config.gpus_per_worker)
    parts: list[RealPart] = []
    pictures = []
    with progress("real slices", len(work), unit="parts") as advance:
        for summary, grey in in_order(task, work, config.workers):
            parts.append(ray.get(summary))
            pictures.append(grey)
            advance()
    places = [(number, row) for number, part in enumerate(parts) for row in range(len(part.keys))]
    pool = RealPool(
        keys=tuple(key for part in parts for key in part.keys),
        thumbnails=np.concatenate([part.thumbnails for part in parts]),
        places=np.asarray(places, dtype=np.int64),
        corners=np.concatenate([part.corners for part in parts]),
        cut=cut,
        pictures=tuple(pictures),
    )
    return RealSlices(
        compared=join([part.measured for part in parts if part.measured is not None]),
        pool=pool,
        parts=tuple((dataset.manifest_sha256, part) for (dataset, *_), part in zip(work, parts, strict=True)),
    )


def read_synthetic(
    config: EvalConfig, network: Network, name: str, origin: Origin, pool: RealPool
) -> list[SyntheticPart]:
    """Read a set of synthetic slices.

    Args:
        config: The job's.
        network: The extractor.
        name: What the report calls the set.
        origin: The set, and where it comes from.
        pool: The real slices.
    """
    dataset = origin.samples
    parts = [part for part in dataset.parts if part.rows]
    shared = ray.put(pool)
    rows = _grid_rows(parts)
    work = ((dataset, part, shared, rows[part.path], network, not origin.on_patches) for part in parts)
    task = read_synthetic_part.options(num_gpus=config.gpus_per_worker)
    done = []
    with progress(name, len(parts), unit="parts") as advance:
        for reference in in_order(task, work, config.workers):
            done.append(ray.get(reference))
            advance()
    return done


def _trained_on(dataset: Dataset, origins: Iterable[Origin]) -> list[Sequence[int] | None]:
    """For each generator that was trained on a dataset, the subsets that it saw; None for all."""
    return [
        subsets
        for origin in origins
        for used, subsets in origin.training
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
    """For each part the rows whose pictures are shown, spread evenly over the dataset."""
    total = sum(part.rows for part in parts)
    wanted = {number * total // GRID_ROWS for number in range(GRID_ROWS)}
    chosen, first = {}, 0
    for part in parts:
        chosen[part.path] = tuple(sorted(row - first for row in wanted if first <= row < first + part.rows))
        first += part.rows
    return chosen

"""The Ray tasks of an evaluation. Each part of a dataset is read and decoded once, by one task."""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import ray
import torch

from lungforge.ct.window import hu_to_uint8
from lungforge.metrics import twins
from lungforge.metrics.features import Extractor, load_extractor
from lungforge.metrics.fidelity import ClassHistogram, nodule_contrasts
from lungforge.store import Dataset, Part, read_bytes, tensor_values

#: Real slices that each synthetic one is compared with, beside its own source.
NEIGHBOURS = 3
#: Of each part, the synthetic slices most like a real one whose pictures are kept.
_WORST_KEPT = 4


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the distances and the fidelity to the maps need of a set of slices.

    Attributes:
        features: ``[N, D]`` float32.
        histogram: HU by class.
        contrasts: Of the nodules, HU.
        scans: Series of each slice.
    """

    features: np.ndarray
    histogram: ClassHistogram
    contrasts: tuple[float, ...]
    scans: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class RealPart:
    """A part of real slices.

    Attributes:
        keys: Series and slice index of each.
        thumbnails: ``[N, S]`` uint8.
        measured: Of those that are compared with; None when the part holds none.
    """

    keys: tuple[tuple[str, int], ...]
    thumbnails: np.ndarray
    measured: Measured | None


@dataclasses.dataclass(frozen=True)
class Match:
    """The real slice most like a synthetic one.

    Attributes:
        sample_id: The synthetic slice.
        series_uid: The scan of the real one.
        slice_index: Its place in it.
        own_source: Whether the synthetic slice was drawn from its map.
        resemblance: How like they are.
    """

    sample_id: str
    series_uid: str
    slice_index: int
    own_source: bool
    resemblance: twins.Resemblance


@dataclasses.dataclass(frozen=True)
class Picture:
    """Rows of the report's grids: grey ``[H, W]`` uint8 each, and the map.

    Attributes:
        sample_id: The synthetic slice.
        source: Series and slice index of the real slice.
        label: The map, uint8.
        real: The real slice; None where it is not at hand.
        synthetic: The synthetic slice.
    """

    sample_id: str
    source: tuple[str, int]
    label: np.ndarray
    real: np.ndarray | None
    synthetic: np.ndarray


@dataclasses.dataclass(frozen=True)
class SyntheticPart:
    """A part of synthetic slices.

    Attributes:
        measured: What the numbers need.
        matches: For each slice, the real one most like it.
        without_source: Slices whose own source is not among the real slices at hand.
        grid: Pictures of the rows asked for.
        worst: The slices most like a real one, beside that one.
        origin: Sampler, steps, guidance and edit of the first slice.
    """

    measured: Measured
    matches: tuple[Match, ...]
    without_source: int
    grid: tuple[Picture, ...]
    worst: tuple[tuple[Match, Picture], ...]
    origin: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RealPool:
    """All real slices that a synthetic one might have been copied from.

    Attributes:
        keys: Series and slice index of each.
        thumbnails: ``[M, S]`` uint8.
        places: For each, the number of its part and its row there, ``[M, 2]``.
        pictures: For each part, the reference to its grey pictures ``[N, H, W]`` uint8.
    """

    keys: tuple[tuple[str, int], ...]
    thumbnails: np.ndarray
    places: np.ndarray
    pictures: tuple[Any, ...]

    @functools.cached_property
    def numbers(self) -> dict[tuple[str, int], int]:
        """The place of each key in the pool."""
        return {key: number for number, key in enumerate(self.keys)}

    def picture(self, number: int) -> np.ndarray:
        """One grey picture ``[H, W]``, a view into Ray's object store."""
        part, row = self.places[number].tolist()
        return ray.get(self.pictures[part])[row]


@dataclasses.dataclass(frozen=True)
class Network:
    """Which extractor a task loads."""

    name: str
    weights: str | None


@functools.lru_cache(maxsize=1)
def _extractor(network: Network) -> Extractor:
    """The extractor, once in each worker process."""
    weights = None if network.weights is None else read_bytes(network.weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_extractor(network.name, weights=weights, device=device)


@ray.remote
def read_real_part(
    dataset: Dataset, part: Part, compared: bool, subsets: Sequence[int] | None, network: Network
) -> tuple[RealPart, np.ndarray]:
    """Read a part of real slices.

    Args:
        dataset: A slices dataset.
        part: One of its parts.
        compared: Whether this dataset is the one that is compared with.
        subsets: Its subsets that are; None for all.
        network: The extractor.

    Returns:
        What the driver keeps, and the grey pictures ``[N, H, W]``, which stay in the object store.
    """
    keys: list[tuple[str, int]] = []
    greys, measured = [], []
    for table in dataset.iter_batches(part):
        image, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        series = table.column("series_uid").to_pylist()
        keys += zip(series, table.column("slice_index").to_pylist(), strict=True)
        greys.append(hu_to_uint8(image))
        wanted = np.full(len(series), compared)
        if compared and subsets is not None:
            wanted = np.isin(table.column("subset").to_numpy(), list(subsets))
        if wanted.any():
            scans = [name for name, keep in zip(series, wanted, strict=True) if keep]
            measured.append(_measure(image[wanted], label[wanted], scans, network))
    grey = np.concatenate(greys)
    return RealPart(tuple(keys), twins.thumbnails(grey), join(measured) if measured else None), grey


@ray.remote
def read_synthetic_part(
    dataset: Dataset, part: Part, pool: RealPool, grid_rows: Sequence[int], network: Network
) -> SyntheticPart:
    """Read a part of synthetic slices, and look for each among the real ones.

    Args:
        dataset: A samples dataset.
        part: One of its parts.
        pool: The real slices.
        grid_rows: Rows of the part whose pictures are wanted.
        network: The extractor.
    """
    measured: list[Measured] = []
    matches: list[Match] = []
    grid: list[Picture] = []
    pairs: list[tuple[Match, Picture]] = []
    origin: dict[str, Any] = {}
    without_source = 0
    for table in dataset.iter_batches(part):
        image, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        names = [
            "sample_id",
            "source_series_uid",
            "source_slice_index",
            "sampler",
            "steps",
            "guidance",
            "edit",
        ]
        rows = table.select(names).to_pylist()
        origin = origin or {name: rows[0][name] for name in names[3:]}
        measured.append(_measure(image, label, [row["source_series_uid"] for row in rows], network))
        grey = hu_to_uint8(image)
        neighbours = twins.nearest(twins.thumbnails(grey), pool.thumbnails, NEIGHBOURS)
        for number, row in enumerate(rows):
            source = (row["source_series_uid"], row["source_slice_index"])
            own = pool.numbers.get(source)
            without_source += own is None
            if len(matches) in grid_rows:
                real = None if own is None else pool.picture(own).copy()
                grid.append(
                    Picture(row["sample_id"], source, label[number].copy(), real, grey[number].copy())
                )
            match, real = _closest(
                row["sample_id"], grey[number], label[number], own, neighbours[number], pool
            )
            matches.append(match)
            key = (match.series_uid, match.slice_index)
            pairs.append(
                (match, Picture(match.sample_id, key, label[number].copy(), real, grey[number].copy()))
            )
        pairs = sorted(pairs, key=lambda pair: -pair[0].resemblance.correlation)[:_WORST_KEPT]
    return SyntheticPart(join(measured), tuple(matches), without_source, tuple(grid), tuple(pairs), origin)


def join(measured: Sequence[Measured]) -> Measured:
    """Several sets of slices as one, in the order given."""
    return Measured(
        features=np.concatenate([piece.features for piece in measured]),
        histogram=sum((piece.histogram for piece in measured), ClassHistogram.empty()),
        contrasts=tuple(value for piece in measured for value in piece.contrasts),
        scans=tuple(scan for piece in measured for scan in piece.scans),
    )


def in_order(task: Any, arguments: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """Run a task for each tuple of arguments, at most ``workers`` at a time.

    Yields:
        What ``task.remote`` gave for each, once it is done, in the order of the arguments.
    """
    running: collections.deque[Any] = collections.deque()
    for given in arguments:
        if len(running) == workers:
            yield _done(running.popleft())
        running.append(task.remote(*given))
    while running:
        yield _done(running.popleft())


def _done(references: Any) -> Any:
    first = references[0] if isinstance(references, list) else references
    ray.wait([first])
    return references


def _closest(
    sample_id: str,
    grey: np.ndarray,
    label: np.ndarray,
    own: int | None,
    neighbours: np.ndarray,
    pool: RealPool,
) -> tuple[Match, np.ndarray]:
    """The real slice most like a synthetic one, of its own source and its neighbours; and its picture."""
    candidates = dict.fromkeys(([] if own is None else [own]) + neighbours.tolist())
    pictures = {number: pool.picture(number) for number in candidates}
    found = {number: twins.resemblance(grey, label, picture) for number, picture in pictures.items()}
    best = max(found, key=lambda number: (found[number].is_near_copy, found[number].correlation))
    series_uid, slice_index = pool.keys[best]
    return Match(sample_id, series_uid, slice_index, best == own, found[best]), pictures[best].copy()


def _measure(image: np.ndarray, label: np.ndarray, scans: Sequence[str], network: Network) -> Measured:
    contrasts = [
        value for hu, classes in zip(image, label, strict=True) for value in nodule_contrasts(hu, classes)
    ]
    return Measured(
        features=_extractor(network).embed(image),
        histogram=ClassHistogram.of(image, label),
        contrasts=tuple(contrasts),
        scans=tuple(scans),
    )

"""The Ray tasks of an evaluation. Each part of a dataset is read and decoded once, by one task."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray

from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Part, tensor_values
from lungforge.datasets.patches import Cut, cut_out
from lungforge.metrics import near_duplicates
from lungforge.metrics.map_agreement import FoundAgain, find_again
from services.common import telemetry
from services.eval.feature_cache import Network, features_of
from services.eval.records import (
    Fidelity,
    Key,
    Match,
    Measured,
    Misfit,
    Picture,
    RealPart,
    RealPool,
    SyntheticPart,
)

#: Real slices that each synthetic one is compared with, beside its own source.
NEIGHBOURS = 3
#: Of each part, the synthetic slices most like a real one whose pictures are kept, and those least like
#: their map.
_WORST_KEPT = 4
_NAMES = ("sample_id", "source_series_uid", "source_slice_index", "source_top", "source_left")
Item = TypeVar("Item")
_MADE_BY = ("sampler", "steps", "guidance", "edit")


@ray.remote
def read_real_part(
    dataset: Dataset,
    part: Part,
    compared: Sequence[int] | None,
    embedded: Sequence[int] | None,
    network: Network,
    segmented: bool,
    cut: Cut | None,
) -> tuple[RealPart, np.ndarray]:
    """Read a part of real slices.

    Args:
        dataset: A slices dataset.
        part: One of its parts.
        compared: The subsets that are compared with; None for all.
        embedded: The subsets whose features are wanted, those first ones among them; None for all.
        network: The extractor.
        segmented: Whether to look for body and lungs in the slices that are compared with.
        cut: How patches are cut from the slices; None for whole slices.

    Returns:
        What the driver keeps, and the grey pictures ``[N, H, W]`` of the whole slices, which stay in the
        object store.
    """
    keys: list[Key] = []
    greys, subsets, corners = [], [], []
    fidelity = Fidelity.empty()
    for table in dataset.iter_batches(part):
        image, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        corner = np.zeros((len(image), 2), np.int64) if cut is None else cut.corners(table)
        corners.append(corner)
        keys += zip(
            table.column("series_uid").to_pylist(), table.column("slice_index").to_pylist(), strict=True
        )
        greys.append(hu_to_uint8(image))
        image, label = cut_out(image, corner, cut), cut_out(label, corner, cut)
        subsets.append(table.column("subset").to_numpy())
        wanted = np.flatnonzero(_among(subsets[-1], compared))
        if len(wanted):
            chosen = table.take(pa.array(wanted))
            found = _find_again(chosen, image[wanted], label[wanted]) if segmented else []
            fidelity += Fidelity.of(image[wanted], label[wanted], found)
    whole, subset, corner = np.concatenate(greys), np.concatenate(subsets), np.concatenate(corners)
    grey = cut_out(whole, corner, cut)
    rows = np.flatnonzero(_among(subset, embedded))
    features = features_of(network, part, rows, grey[rows], cut)
    mine = _among(subset[rows], compared)
    measured = None
    if mine.any():
        measured = Measured(features[mine], tuple(keys[row] for row in rows[mine]), fidelity)
    return RealPart(
        tuple(keys), subset, corner, near_duplicates.thumbnails(grey), rows, features, measured
    ), whole


@ray.remote
def read_synthetic_part(
    dataset: Dataset,
    part: Part,
    pool: RealPool,
    grid_rows: Sequence[int],
    network: Network,
    segmented: bool,
) -> SyntheticPart:
    """Read a part of synthetic slices, and look for each among the real ones.

    Args:
        dataset: A samples dataset.
        part: One of its parts.
        pool: The real slices.
        grid_rows: Rows of the part whose pictures are wanted.
        network: The extractor.
        segmented: Whether to look for body and lungs in the slices.
    """
    keys: list[Key] = []
    greys = []
    fidelity = Fidelity.empty()
    matches: list[Match] = []
    grid: list[Picture] = []
    pairs: list[tuple[Match, Picture]] = []
    misfits: list[Misfit] = []
    origin: dict[str, Any] = {}
    without_source = 0
    for table in dataset.iter_batches(part):
        image, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        rows = table.select([*_NAMES, *_MADE_BY]).to_pylist()
        origin = origin or {name: rows[0][name] for name in _MADE_BY}
        grey = hu_to_uint8(image)
        greys.append(grey)
        found = _find_again(table, image, label) if segmented else []
        fidelity += Fidelity.of(image, label, found)
        misfits += [
            Misfit(row["sample_id"], label[number].copy(), grey[number].copy(), again)
            for number, (row, again) in enumerate(zip(rows, found, strict=False))
        ]
        misfits = sorted(misfits, key=lambda misfit: misfit.lowest)[:_WORST_KEPT]
        neighbours = near_duplicates.nearest(near_duplicates.thumbnails(grey), pool.thumbnails, NEIGHBOURS)
        for number, row in enumerate(rows):
            source = (row["source_series_uid"], row["source_slice_index"])
            keys.append(source)
            own = pool.numbers.get(source)
            without_source += own is None
            corner = row["source_top"], row["source_left"]
            if len(matches) in grid_rows:
                real = None if own is None else pool.picture(own, corner).copy()
                grid.append(
                    Picture(row["sample_id"], source, label[number].copy(), real, grey[number].copy())
                )
            match, real = _closest(
                row["sample_id"], grey[number], label[number], own, corner, neighbours[number], pool
            )
            matches.append(match)
            key = (match.series_uid, match.slice_index)
            pairs.append(
                (match, Picture(match.sample_id, key, label[number].copy(), real, grey[number].copy()))
            )
        pairs = sorted(pairs, key=lambda pair: -pair[0].resemblance.correlation)[:_WORST_KEPT]
    features = features_of(network, part, np.arange(len(keys)), np.concatenate(greys))
    return SyntheticPart(
        measured=Measured(features, tuple(keys), fidelity),
        matches=tuple(matches),
        without_source=without_source,
        grid=tuple(grid),
        worst=tuple(pairs),
        misfits=tuple(misfits),
        origin=origin,
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


def as_done(start: Callable[[Item], Any], items: Iterable[Item], workers: int) -> Iterator[tuple[Item, Any]]:
    """Start a task for each item, at most ``workers`` at a time.

    Yields:
        Each item and what its task returned, in the order in which they are done.
    """
    waiting = collections.deque(items)
    running: dict[Any, Item] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            item = waiting.popleft()
            running[start(item)] = item
        (done,), _ = ray.wait(list(running), num_returns=1)
        item, result = running.pop(done), ray.get(done)
        telemetry.TASKS.inc()
        yield item, result


def _done(references: Any) -> Any:
    first = references[0] if isinstance(references, list) else references
    ray.wait([first])
    telemetry.TASKS.inc()
    return references


def _among(subset: np.ndarray, subsets: Sequence[int] | None) -> np.ndarray:
    """Which rows are of some subsets, bool ``[N]``; all of them for None."""
    return np.full(len(subset), True) if subsets is None else np.isin(subset, list(subsets))


def _find_again(table: pa.Table, image: np.ndarray, label: np.ndarray) -> list[FoundAgain]:
    """Body and lungs in each slice of a table, beside its map."""
    spacings = table.column("spacing_mm").to_pylist()
    return [find_again(*given) for given in zip(image, label, spacings, strict=True)]


def _closest(
    sample_id: str,
    grey: np.ndarray,
    label: np.ndarray,
    own: int | None,
    corner: tuple[int, int],
    neighbours: np.ndarray,
    pool: RealPool,
) -> tuple[Match, np.ndarray]:
    """The real slice most like a synthetic one, of its own source and its neighbours; and its picture.

    Of its own source the patch is taken that the synthetic one was drawn for, at ``corner``.
    """
    candidates = dict.fromkeys(([] if own is None else [own]) + neighbours.tolist())
    corners = {number: corner if number == own else None for number in candidates}
    pictures = {number: pool.picture(number, corners[number]) for number in candidates}
    places = {
        number: None if pool.cut is None else pool.place(number, corners[number]) for number in candidates
    }
    found = {
        number: near_duplicates.resemblance(grey, label, picture, places[number])
        for number, picture in pictures.items()
    }
    best = max(found, key=lambda number: (found[number].is_near_copy, found[number].correlation))
    series_uid, slice_index = pool.keys[best]
    return Match(sample_id, series_uid, slice_index, best == own, found[best]), pictures[best].copy()

"""The Ray tasks of an evaluation. Each part of a dataset is read and decoded once, by one task."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Part, tensor_values
from lungforge.datasets.patches import cut_out
from lungforge.metrics import near_duplicates
from lungforge.metrics.fidelity import class_medians
from lungforge.metrics.map_agreement import segment_and_compare
from lungforge.metrics.near_duplicates import Resemblance
from lungforge.metrics.patch_search import cells
from services.eval.copy_search import NOBODY, most_like
from services.eval.feature_cache import features_of
from services.eval.part_measures import PartMeasures
from services.eval.records import (
    Fidelity,
    Key,
    Match,
    MeasuredSlices,
    Misfit,
    RealCheck,
    RealPart,
    RealPool,
    RealSource,
    SliceImages,
    SyntheticPart,
    SyntheticSource,
)
from services.eval.set_results import GenerationSettings

#: Lowest and highest HU of a CT: 12 bits from -1024, and metal beyond them on scanners of a wider range.
PLAUSIBLE_HU = (-3024, 20_000)
#: Of each part, the synthetic slices most like a real one whose images are kept, and those least like their
#: map.
_SHOWN = 4


@ray.remote
def read_real_part(source: RealSource, part: Part) -> tuple[RealPart, NDArray[np.uint8], NDArray[np.float32]]:
    """Read a part of real slices.

    Args:
        source: The dataset, and what is to be read.
        part: One of its parts.

    Returns:
        What the driver keeps, and what stays in the object store: the grey images of the whole slices with
        their maps, ``[N, 2, H, W]``, and where slices are cut, the textures ``[N, h, w]`` in which patches
        are looked up.
    """
    keys: list[Key] = []
    greys, subsets, corners, medians = [], [], [], []
    fidelity = Fidelity.empty()
    cut = source.cut
    measures = PartMeasures.of(source.network.cache, part, cut, source.compared, segmented=source.segmented)
    for table in source.dataset.iter_batches(part):
        hu, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        corner = np.zeros((len(hu), 2), np.int64) if cut is None else cut.corners(table)
        corners.append(corner)
        keys += zip(
            table.column("series_uid").to_pylist(), table.column("slice_index").to_pylist(), strict=True
        )
        greys.append(np.stack([hu_to_uint8(hu), label], axis=1))
        hu, label = cut_out(hu, corner, cut), cut_out(label, corner, cut)
        medians.append(class_medians(hu, label))
        subsets.append(table.column("subset").to_numpy())
        is_wanted = among(subsets[-1], source.compared)
        wanted, spacings = np.flatnonzero(is_wanted), table.column("spacing_mm").to_pylist()
        measures.add(hu, label, spacings, is_wanted)
        if len(wanted):
            fidelity += Fidelity.of(hu[wanted], label[wanted], [spacings[row] for row in wanted])
    kept, subset, corner = np.concatenate(greys), np.concatenate(subsets), np.concatenate(corners)
    whole = kept[:, 0]
    grey = cut_out(whole, corner, cut)
    rows = np.flatnonzero(among(subset, source.embedded))
    features = features_of(source.network, part, rows, grey[rows], cut)
    compared = among(subset[rows], source.compared)
    median = np.concatenate(medians)
    measured = None
    if compared.any():
        those = rows[compared]
        compared_keys = tuple(keys[row] for row in those)
        second = None if source.second is None else features_of(source.second, part, those, grey[those], cut)
        fidelity = fidelity.with_dice(measures.dice()[those])
        measured = MeasuredSlices(
            features[compared], compared_keys, fidelity, measures.radiomics()[those], median[those], second
        )
    nothing = np.zeros((len(whole), 0), np.float32)
    thumbnails = near_duplicates.thumbnails(whole) if cut is None else nothing
    textures = nothing if cut is None else cells(whole, cut.size)
    return RealPart(tuple(keys), subset, thumbnails, rows, features, median, measured), kept, textures


@ray.remote
def check_real_part(source: RealCheck, part: Part, rows: Sequence[int]) -> list[Resemblance]:
    """Look for real slices as for synthetic ones, in the slices of other patients.

    Args:
        source: The dataset, and the real slices that are searched.
        part: One of its parts.
        rows: Which of its rows.

    Returns:
        How like the most similar slice each is.
    """
    results = []
    pool, first = source.pool, 0
    for table in source.dataset.iter_batches(part):
        wanted = [row - first for row in rows if first <= row < first + len(table)]
        first += len(table)
        if not wanted:
            continue
        table = table.take(pa.array(wanted))
        hu, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        if pool.cut is not None:
            corner = pool.cut.corners(table)
            hu, label = cut_out(hu, corner, pool.cut), cut_out(label, corner, pool.cut)
        keys = zip(
            table.column("series_uid").to_pylist(), table.column("slice_index").to_pylist(), strict=True
        )
        patients = pool.patients[[pool.indices[key] for key in keys]]
        found = most_like(hu_to_uint8(hu), label, pool, sources=[None] * len(wanted), patients=patients)
        results += [one[1] for one in found if one is not None]
    return results


@ray.remote
def read_synthetic_part(source: SyntheticSource, part: Part, grid_rows: Collection[int]) -> SyntheticPart:
    """Read a part of synthetic slices, measure them, and compare each with the real ones.

    Args:
        source: The dataset, and the real slices.
        part: One of its parts.
        grid_rows: Rows of the part whose images are wanted.
    """
    samples: list[_Sample] = []
    greys, medians = [], []
    measures = PartMeasures.of(source.network.cache, part, None, None, segmented=source.segmented)
    fidelity = Fidelity.empty()
    matches: list[Match] = []
    grid: list[SliceImages] = []
    most_similar: list[tuple[Match, SliceImages]] = []
    misfits: list[Misfit] = []
    flat: list[str] = []
    beyond: list[str] = []
    for table in source.dataset.iter_batches(part):
        batch = _SampleBatch.of(table)
        fidelity += Fidelity.of(batch.hu, batch.label, batch.spacings_mm)
        overlaps = measures.add(batch.hu, batch.label, batch.spacings_mm, np.full(len(batch.hu), True))
        medians.append(class_medians(batch.hu, batch.label))
        grid += _grid(batch, source.pool, [row - len(samples) for row in grid_rows])
        pairs = _most_like(batch, source.pool)
        matches += [match for match, _ in pairs]
        # Images are kept of a few only, so that memory holds one batch.
        most_similar = sorted([*most_similar, *pairs], key=lambda pair: -pair[0].resemblance.correlation)
        most_similar = most_similar[:_SHOWN]
        if source.segmented:
            misfits = sorted([*misfits, *_misfits(batch, overlaps)], key=lambda misfit: misfit.lowest)
            misfits = misfits[:_SHOWN]
        samples += batch.samples
        lowest, highest = batch.hu.min((1, 2)), batch.hu.max((1, 2))
        flat += _named(batch, lowest == highest)
        beyond += _named(batch, (lowest < PLAUSIBLE_HU[0]) | (highest > PLAUSIBLE_HU[1]))
        greys.append(batch.grey)
    rows, grey = np.arange(len(samples)), np.concatenate(greys)
    features = features_of(source.network, part, rows, grey)
    second = None if source.second is None else features_of(source.second, part, rows, grey)
    return SyntheticPart(
        measured=MeasuredSlices(
            features,
            tuple(sample.source for sample in samples),
            fidelity.with_dice(measures.dice()),
            measures.radiomics(),
            np.concatenate(medians),
            second,
        ),
        matches=tuple(matches),
        without_source=sum(sample.source not in source.pool.indices for sample in samples),
        flat=tuple(flat),
        beyond=tuple(beyond),
        grid=tuple(grid),
        most_similar=tuple(most_similar),
        misfits=tuple(misfits),
        settings=samples[0].settings,
    )


def _named(batch: "_SampleBatch", wanted: NDArray[np.bool_]) -> list[str]:
    """The names of some samples of a batch."""
    return [batch.samples[row].sample_id for row in np.flatnonzero(wanted)]


@dataclasses.dataclass(frozen=True)
class _Sample:
    """A synthetic slice without its pixels.

    Attributes:
        sample_id: Its name.
        source: The real slice whose map it was generated from.
        corner: Where in that slice its patch lies; (0, 0) for whole slices.
        settings: How it was generated.
    """

    sample_id: str
    source: Key
    corner: tuple[int, int]
    settings: GenerationSettings


@dataclasses.dataclass(frozen=True)
class _SampleBatch:
    """Some synthetic slices: HU, map and grey image ``[N, H, W]``; the spacing of each, [row, column]."""

    samples: list[_Sample]
    hu: NDArray[np.int16]
    label: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    spacings_mm: list[list[float]]

    @classmethod
    def of(cls, table: pa.Table) -> "_SampleBatch":
        """The rows of a table of samples."""
        hu, label = tensor_values(table.column("image")), tensor_values(table.column("label"))
        names = ("source_series_uid", "source_slice_index", "source_top", "source_left")
        settings = ("sampler", "steps", "guidance", "edit")
        samples = [
            _Sample(
                sample_id=row["sample_id"],
                source=(row["source_series_uid"], row["source_slice_index"]),
                corner=(row["source_top"], row["source_left"]),
                settings=GenerationSettings(**{name: row[name] for name in settings}),
            )
            for row in table.select(["sample_id", *names, *settings]).to_pylist()
        ]
        return cls(samples, hu, label, hu_to_uint8(hu), table.column("spacing_mm").to_pylist())


def _grid(batch: _SampleBatch, pool: RealPool, rows: Collection[int]) -> list[SliceImages]:
    """Some rows of a batch, each beside its map and its source."""
    images = []
    for row, sample in enumerate(batch.samples):
        if row in rows:
            index = pool.indices.get(sample.source)
            real = None if index is None else pool.image(index, sample.corner).copy()
            label, grey = batch.label[row].copy(), batch.grey[row].copy()
            images.append(SliceImages(sample.sample_id, sample.source, label, real, grey))
    return images


def _misfits(batch: _SampleBatch, overlaps: NDArray[np.float32]) -> list[Misfit]:
    """The slices of a batch that agree least with their maps, segmented again: nothing kept what is shown.

    Args:
        batch: The slices.
        overlaps: Of segmentation and map, ``[N, S]``; NaN for what neither holds.
    """
    lowest = np.where(np.isnan(overlaps), 1.0, overlaps).min(axis=1)
    return [
        Misfit(
            batch.samples[row].sample_id,
            batch.label[row].copy(),
            batch.grey[row].copy(),
            segment_and_compare(batch.hu[row], batch.label[row], batch.spacings_mm[row]),
        )
        for row in np.argsort(lowest, kind="stable")[:_SHOWN].tolist()
    ]


def _most_like(batch: _SampleBatch, pool: RealPool) -> list[tuple[Match, SliceImages]]:
    """For each slice of a batch the real one most like it, wherever in that a patch lies."""
    found = most_like(
        batch.grey,
        batch.label,
        pool,
        sources=[(sample.source, sample.corner) for sample in batch.samples],
        patients=np.full(len(batch.samples), NOBODY, dtype=np.int64),
    )
    pairs = []
    for row, (sample, one) in enumerate(zip(batch.samples, found, strict=True)):
        assert one is not None, "the pool holds the slices to compare with, at least"
        place, resemblance = one
        key = pool.keys[place.index]
        match = Match(sample.sample_id, *key, key == sample.source, resemblance)
        label, grey = batch.label[row].copy(), batch.grey[row].copy()
        real = pool.image(place.index, place.corner).copy()
        pairs.append((match, SliceImages(sample.sample_id, key, label, real, grey)))
    return pairs


def among(subset: NDArray[np.int8], subsets: Sequence[int] | None) -> NDArray[np.bool_]:
    """Which rows are of some subsets, bool ``[N]``; all of them for None."""
    return np.full(len(subset), True) if subsets is None else np.isin(subset, list(subsets))

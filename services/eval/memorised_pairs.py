"""The images of the synthetic slices nearest to a training slice, read again: nothing kept them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Part, tensor_values
from lungforge.datasets.patches import cut_out
from services.eval.collect import RealSlices
from services.eval.copy_results import MemorisationResult, MemorisedPair
from services.eval.lineage import SampleLineage
from services.eval.records import SliceImages, SyntheticPart
from services.eval.set_results import NotMeasured


def memorised_pairs(
    lineage: SampleLineage,
    slices: RealSlices,
    parts: Sequence[SyntheticPart],
    result: MemorisationResult | NotMeasured,
) -> tuple[tuple[MemorisedPair, SliceImages], ...]:
    """The worst pairs of a result with their images, the nearest first; none where it was not measured.

    Args:
        lineage: Of the set.
        slices: The real slices.
        parts: The parts of the set, as they were measured.
        result: Its memorisation.
    """
    if isinstance(result, NotMeasured):
        return ()
    used = {dataset.manifest_sha256: dataset for dataset, _ in lineage.training}
    shown = []
    for pair in result.worst:
        table = _row_of_sample(lineage.samples, parts, pair.sample_id)
        label = tensor_values(table.column("label"))[0]
        key = (pair.series_uid, pair.slice_index)
        images = SliceImages(pair.sample_id, key, label, _training_slice(used, slices, key), _grey(table)[0])
        shown.append((pair, images))
    return tuple(shown)


def _row_of_sample(samples: Dataset, parts: Sequence[SyntheticPart], sample_id: str) -> pa.Table:
    for part, measured in zip((part for part in samples.parts if part.rows), parts, strict=True):
        names = [match.sample_id for match in measured.matches]
        if sample_id in names:
            return _row(samples, part, names.index(sample_id))
    raise AssertionError(f"{sample_id} was measured, and is in no part")


def _training_slice(used: dict[str, Dataset], slices: RealSlices, key: tuple[str, int]) -> NDArray[np.uint8]:
    """The grey image of a training slice, or the patch of it that was measured."""
    for digest, dataset in used.items():
        of_dataset = [part for other, part in slices.parts if other == digest]
        for part, measured in zip((part for part in dataset.parts if part.rows), of_dataset, strict=True):
            if key in measured.keys:
                table = _row(dataset, part, measured.keys.index(key))
                cut = slices.pool.cut
                corners = np.zeros((1, 2), np.int64) if cut is None else cut.corners(table)
                return cut_out(_grey(table), corners, cut)[0]
    raise AssertionError(f"slice {key[1]} of {key[0]} was measured, and is in no part")


def _row(dataset: Dataset, part: Part, row: int) -> pa.Table:
    first = 0
    for table in dataset.iter_batches(part):
        if row < first + len(table):
            return table.take(pa.array([row - first]))
        first += len(table)
    raise AssertionError(f"{part.path} has no row {row}")


def _grey(table: pa.Table) -> NDArray[np.uint8]:
    return hu_to_uint8(tensor_values(table.column("image")))

"""Sampling again what leaves the range of Hounsfield units of the training images."""

import dataclasses
from typing import Final

from lungforge.datasets import DatasetWriter
from lungforge.errors import AccessError, InputError
from lungforge.metrics.hu_gate import LEAST_SLICES, GateCounts, HuRanges
from lungforge.models.base import Identity
from lungforge.models.model_dataset import ModelDataset
from services.sample.config import SampleConfig

#: How often an image is sampled again, at most: of a model of which every second image is outside, 3 % still
#: are then. What is outside five times over is outside because of its map.
RETRIES: Final = 4


def gate_of(config: SampleConfig, model: ModelDataset) -> HuRanges | None:
    """The ranges that a job keeps to; None without a gate.

    Raises:
        InputError: The model has none.
    """
    if not config.hu_gate:
        return None
    if model.details.hu_ranges is None:
        raise InputError(
            f"the model {model.dataset.uri} has no range of Hounsfield units: it was imported, trained by an "
            f"older release, or on fewer than {LEAST_SLICES} slices; train it again, or leave --hu-gate out"
        )
    return HuRanges.from_json(model.details.hu_ranges)


def retried(identity: Identity, retry: int) -> Identity:
    """The identity of a retry of an image; the first try, 0, has that of the image."""
    return (*identity, retry) if retry else identity


def stored_counts(writer: DatasetWriter, part: str) -> GateCounts:
    """What the gate did to the images of a part, as they are stored, whichever run sampled them.

    Raises:
        AccessError: The part is gone.
    """
    found = writer.find_rows(part)
    if found is None:
        raise AccessError(f"{writer.uri}: part {part} is gone or altered by now; run the job again")
    _, table = found
    return GateCounts.of_rows(table.column("hu_retries").to_numpy(), table.column("hu_outside").to_numpy())


def counts_in_words(counts: GateCounts, images: int) -> str:
    """One line about what the gate did."""
    return (
        f"{counts.resampled} of {images} images left the range of the training images in HU and were sampled "
        f"again, {counts.retries} times in all; {counts.outside} are still outside and were kept"
    )


def as_details(counts: GateCounts | None) -> dict[str, dict[str, int]]:
    """What the manifest of samples says of the gate; nothing without one."""
    return {} if counts is None else {"hu_gate": dataclasses.asdict(counts)}

"""Sampling the images of a unit: what each worker does, without Ray."""

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.ct import classes
from lungforge.ct.edits import EditedMap, EditName, edit_map, edits_for, surroundings
from lungforge.datasets import Dataset, DatasetWriter, Kind, Parent, Part, table_from_rows
from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import RowIndex, SliceRow
from lungforge.errors import ContentError, InputError
from lungforge.metrics.hu_gate import GateCounts, HuRanges
from lungforge.models.base import Identity, InpaintingSampler
from lungforge.models.identity import image_identity
from lungforge.models.model_dataset import ModelDataset
from lungforge.models.place import place_of
from lungforge.models.sampling import NotFiniteError
from lungforge.randomness import numpy_generator
from services.sample.config import SampleConfig
from services.sample.hu_gate import RETRIES, retried, stored_counts
from services.sample.plan import SampleUnit


@dataclass(frozen=True)
class SamplingRun:
    """All that a worker needs to know. Plain data: it goes to other processes as it is.

    Attributes:
        config: Of the job.
        model: The model to sample with.
        patch: Side of the patches that it was trained on, in px; None for whole slices.
        index: The maps.
        writer: Of the output.
        gate: The Hounsfield units that images must have; None for any.
    """

    config: SampleConfig
    model: Parent
    patch: int | None
    index: RowIndex
    writer: DatasetWriter
    gate: HuRanges | None = None


@dataclass(frozen=True)
class ImageRequest:
    """An image that is to be sampled.

    Attributes:
        identity: What decides its noise, and so tells it from all others of a model.
        row: The slice that its map comes from, or the patch of it.
        replicate: Which of the slice's images it is.
        corner: Row and column of the patch's first pixel in the slice; 0 and 0 of a whole slice.
        edited: Its map.
    """

    identity: Identity
    row: SliceRow
    replicate: int
    corner: tuple[int, int]
    edited: EditedMap


def check_model(model: ModelDataset, index: RowIndex, *, inpaint: bool = False) -> int | None:
    """Compare a model with the maps that it is to sample from, without reading its weights.

    Args:
        model: The model.
        index: The maps.
        inpaint: Whether it is to sample parts of slices.

    Returns:
        The side of the patches that it was trained on, in px; None for whole slices.

    Raises:
        InputError: The model is of other images or classes.
    """
    if model.config.classes != classes.COUNT:
        raise InputError(
            f"the model {model.dataset.uri} has {model.config.classes} classes and the maps have "
            f"{classes.COUNT}; train one on these slices with `lungforge train`"
        )
    if inpaint and not model.spec.inpaints:
        raise InputError(
            f"the model {model.dataset.uri} is of {model.spec.summary}, which cannot inpaint; "
            "leave --inpaint out"
        )
    patch, size = model.details.patch, model.config.image_size
    height, width = index.size
    if patch is None and (height, width) != (size, size):
        raise InputError(
            f"the model {model.dataset.uri} makes images of {size} x {size} px and {index.dataset.uri} holds "
            f"{height} x {width}; make slices with `lungforge preprocess --size {size}`"
        )
    if patch is not None and patch > min(height, width):
        raise InputError(
            f"the model {model.dataset.uri} makes patches of {patch} px and {index.dataset.uri} holds "
            f"{height} x {width}; make larger slices with `lungforge preprocess --size N`"
        )
    return patch


class UnitSampler:
    """Samples units and writes them as parts; the model is loaded once.

    Several threads may sample units at a time: the network computes for one of them, while others read maps
    and write images.

    Args:
        run: What to sample.
        device: Where to.

    Raises:
        InputError: The model is gone, altered, or no longer the one that the run names.
    """

    def __init__(self, run: SamplingRun, device: torch.device) -> None:
        self.run = run
        dataset = Dataset.open(run.model.uri, Kind.MODEL)
        if dataset.manifest_sha256 != run.model.sha256:
            raise InputError(f"the model {run.model.uri} was replaced while it was in use; start again")
        model = ModelDataset.of(dataset)
        self._sampler = model.sampler(run.config.sampling, device, classes=classes.COUNT)
        self._computing = threading.Lock()

    def sample(self, unit: SampleUnit) -> Part:
        """Sample and write a unit, unless an earlier run has. Where an edit has no room, a row is missing."""
        present = self.run.writer.find_part(unit.name)
        if present is not None:
            return present
        requests = self._requests(unit)
        gate, size = self.run.gate, self.run.patch
        with self._computing:
            rows = self._sample_all(requests) if gate is None else self._sample_gated(requests, gate)
        shape = self.run.index.size if size is None else (size, size)
        table = table_from_rows(Kind.SAMPLES, rows, shape=shape, extra=gate is not None)
        return self.run.writer.write_part(unit.name, table)

    def gate_counts(self, unit: SampleUnit) -> GateCounts | None:
        """What the gate did to a unit that is written; None without a gate."""
        return None if self.run.gate is None else stored_counts(self.run.writer, unit.name)

    def time_batch(self, unit: SampleUnit) -> float:
        """Sample the first batch of a unit twice, and write nothing: seconds an image, of the second time."""
        batch = self._requests(unit)[: self.run.config.batch]
        if not batch:
            raise InputError("the first edits have no room, so there is nothing to time; give other --edits")
        self._sample_batch(batch)
        started = time.perf_counter()
        self._sample_batch(batch)
        return (time.perf_counter() - started) / len(batch)

    def _requests(self, unit: SampleUnit) -> list[ImageRequest]:
        distinct = np.unique(unit.rows)
        sources = dict(zip(distinct.tolist(), self.run.index.read(distinct), strict=True))
        images = zip(unit.rows.tolist(), unit.replicates.tolist(), strict=True)
        requests = (request_image(self.run, sources[row], replicate) for row, replicate in images)
        return [request for request in requests if request is not None]

    def _sample_gated(self, requests: Sequence[ImageRequest], gate: HuRanges) -> list[dict]:
        """Sample images, and again those that the gate does not pass, as often as is allowed."""
        rows: list[dict] = [{} for _ in requests]
        waiting = list(range(len(requests)))
        for retry in range(RETRIES + 1):
            tries = [
                dataclasses.replace(requests[place], identity=retried(requests[place].identity, retry))
                for place in waiting
            ]
            for place, row in zip(waiting, self._sample_all(tries), strict=True):
                outside = bool(gate.outside(row["image"][None], row["label"][None])[0])
                rows[place] = row | {"hu_retries": retry, "hu_outside": outside}
            waiting = [place for place in waiting if rows[place]["hu_outside"]]
        return rows

    def _sample_all(self, requests: Sequence[ImageRequest]) -> list[dict]:
        rows: list[dict] = []
        for start in range(0, len(requests), self.run.config.batch):
            rows += self._sample_batch(requests[start : start + self.run.config.batch])
        return rows

    def _sample_batch(self, requests: Sequence[ImageRequest]) -> list[dict]:
        labels = np.stack([request.edited.label for request in requests])
        identities = [request.identity for request in requests]
        try:
            images = self._images(labels, identities, requests)
        except NotFiniteError as error:
            names = ", ".join(sample_id(identities[position]) for position in error.positions)
            raise ContentError(
                f"sample {names}: the image is not finite (NaN or infinite); the model {self.run.model.uri} "
                "is broken or cannot sample with these options: try another --sampler, more --steps or less "
                "--guidance, or train it again"
            ) from error
        return [self._row(request, image) for request, image in zip(requests, images, strict=True)]

    def _images(
        self, labels: NDArray[np.uint8], identities: Sequence[Identity], requests: Sequence[ImageRequest]
    ) -> NDArray[np.int16]:
        places = np.stack(
            [
                place_of(
                    request.row.spacing_mm, self.run.index.size, request.edited.label.shape, request.corner
                )
                for request in requests
            ]
        )
        if self.run.config.inpaint:
            assert isinstance(self._sampler, InpaintingSampler), "check_model has asked the spec"
            return self._sampler.inpaint(
                labels,
                identities,
                np.stack([request.row.image for request in requests]),
                np.stack(
                    [surroundings(request.edited.changed, request.row.spacing_mm) for request in requests]
                ),
                places,
            )
        return self._sampler.sample(labels, identities, places)

    def _row(self, request: ImageRequest, image: NDArray[np.int16]) -> dict:
        run, row = self.run, request.row
        return {
            "sample_id": sample_id(request.identity),
            "source_series_uid": row.series_uid,
            "source_slice_index": row.slice_index,
            "source_top": request.corner[0],
            "source_left": request.corner[1],
            "subset": row.subset,
            "replicate": request.replicate,
            "seed": run.config.seed,
            "edit": request.edited.edit,
            "inpainted": run.config.inpaint,
            "sampler": self._sampler.sampler,
            "steps": self._sampler.steps,
            "guidance": self._sampler.guidance,
            "model_sha256": run.model.sha256,
            "spacing_mm": list(row.spacing_mm),
            "image": image,
            "label": request.edited.label,
            "nodules": list(request.edited.nodules),
        }


def request_image(run: SamplingRun, row: SliceRow, replicate: int) -> ImageRequest | None:
    """Choose the edit of an image, and make its map; None where the edit has no room."""
    config = run.config
    edit = choose_edit(config, row, replicate)
    identity = sample_identity(config, row, replicate, edit)
    corner = (0, 0)
    if run.patch is not None:
        corner = patch_corner(row, run.patch, numpy_generator(*identity, "patch"))
        row = patch_at(row, run.patch, corner)
    edited = edit_map(
        edit,
        row.label,
        row.nodules,
        spacing_mm=row.spacing_mm,
        generator=numpy_generator(*identity, "edit"),
        diameters_mm=run.index.diameters_mm,
    )
    return None if edited is None else ImageRequest(identity, row, replicate, corner, edited)


def choose_edit(config: SampleConfig, row: SliceRow, replicate: int) -> EditName:
    """One of the edits that a slice allows, by their weights."""
    possible = edits_for(bool(row.nodules))
    choices = [(name, weight) for name, weight in config.edits if name in possible]
    assert choices, "the plan has no image of a slice that allows none"
    weights = np.array([weight for _, weight in choices])
    generator = numpy_generator(config.seed, row.series_uid, row.slice_index, replicate, "choice")
    return choices[int(generator.choice(len(choices), p=weights / weights.sum()))][0]


def sample_identity(config: SampleConfig, row: SliceRow, replicate: int, edit: EditName) -> Identity:
    """What decides the noise of an image, and so tells it from all others of a model."""
    return image_identity(
        config.seed, row.series_uid, row.slice_index, replicate, edit, inpainted=config.inpaint
    )


def sample_id(identity: Identity) -> str:
    """The short name of an image: the first 80 bits of the digest of its identity."""
    names = ("seed", "source_series_uid", "source_slice_index", "replicate", "edit", "hu_retries")
    return digest(dict(zip(names[: len(identity)], identity, strict=True)))[:20]

"""Drawing the images of a unit: what each worker does, without Ray."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lungforge.config import digest
from lungforge.ct import classes
from lungforge.errors import InputError
from lungforge.patches import cut_patch
from lungforge.randomness import numpy_generator
from lungforge.rows import RowIndex, SliceRow
from lungforge.store import Dataset, DatasetWriter, Kind, Parent, Part, table_from_rows
from lungforge.synthesis import load_painter, network_config
from services.sample.config import SampleConfig
from services.sample.plan import Unit

#: The maps are drawn from as they are.
NO_EDIT = "none"


@dataclass(frozen=True)
class Work:
    """All that a worker needs to know. Plain data: it goes to other processes as it is.

    Attributes:
        config: Of the run.
        model: What draws.
        patch: Side of the patches that it was trained on, in px; None for whole slices.
        index: The maps.
        writer: Of the output.
    """

    config: SampleConfig
    model: Parent
    patch: int | None
    index: RowIndex
    writer: DatasetWriter


def check_model(model: Dataset, index: RowIndex) -> int | None:
    """Hold a model against the maps that it is to draw from, without reading its weights.

    Returns:
        The side of the patches that it was trained on, in px; None for whole slices.

    Raises:
        InputError: The model is of other images or classes.
    """
    shape = network_config(json.loads(model.read_file("config.json")))
    if shape.classes != classes.COUNT:
        raise InputError(
            f"the model {model.uri} knows {shape.classes} classes and the maps have {classes.COUNT}; "
            "train one on these slices with `lungforge train`"
        )
    patch = model.manifest.details.get("patch")
    height, width = index.size
    if patch is None and (height, width) != (shape.image_size, shape.image_size):
        raise InputError(
            f"the model {model.uri} draws {shape.image_size} x {shape.image_size} px and "
            f"{index.dataset.uri} holds {height} x {width}; "
            f"make slices with `lungforge preprocess --size {shape.image_size}`"
        )
    if patch is not None and patch > min(height, width):
        raise InputError(
            f"the model {model.uri} draws patches of {patch} px and {index.dataset.uri} holds "
            f"{height} x {width}; make larger slices with `lungforge preprocess --size N`"
        )
    return patch


class Drawer:
    """Draws units and writes them as parts; the model is loaded once.

    Args:
        work: What to draw.
        device: Where to.

    Raises:
        InputError: The model is gone, altered, or no longer the one that the work names.
    """

    def __init__(self, work: Work, device: torch.device) -> None:
        self.work = work
        model = Dataset.open(work.model.uri, Kind.MODEL)
        if model.manifest_sha256 != work.model.sha256:
            raise InputError(f"the model {work.model.uri} was replaced while it was in use; start again")
        document = json.loads(model.read_file("config.json"))
        config = work.config
        self._painter = load_painter(
            model.read_file("model.safetensors"),
            document,
            device,
            classes=classes.COUNT,
            sampler=config.sampler,
            steps=config.steps,
            guidance=config.guidance,
        )

    def draw(self, unit: Unit) -> Part:
        """Draw and write a unit, unless an earlier run has."""
        found = self.work.writer.find_part(unit.name)
        if found is not None:
            return found
        distinct = np.unique(unit.rows)
        sources = dict(zip(distinct.tolist(), self.work.index.read(distinct), strict=True))
        images = [
            (sources[row], replicate)
            for row, replicate in zip(unit.rows.tolist(), unit.replicates.tolist(), strict=True)
        ]
        rows: list[dict] = []
        for start in range(0, len(images), self.work.config.batch):
            rows += self._draw_batch(images[start : start + self.work.config.batch])
        return self.work.writer.write_part(unit.name, table_from_rows(Kind.SAMPLES, rows))

    def _draw_batch(self, wanted: Sequence[tuple[SliceRow, int]]) -> list[dict]:
        work, config = self.work, self.work.config
        sources = [row for row, _ in wanted]
        identities = [sample_identity(config.seed, row, replicate) for row, replicate in wanted]
        if work.patch is not None:
            sources = [
                cut_patch(row, work.patch, numpy_generator(*identity, "patch"))
                for row, identity in zip(sources, identities, strict=True)
            ]
        images = self._painter.draw(np.stack([row.label for row in sources]), identities)
        return [
            {
                "sample_id": sample_id(identity),
                "source_series_uid": row.series_uid,
                "source_slice_index": row.slice_index,
                "subset": row.subset,
                "replicate": replicate,
                "seed": config.seed,
                "edit": NO_EDIT,
                "sampler": self._painter.sampler,
                "steps": self._painter.steps,
                "guidance": self._painter.guidance,
                "model_sha256": work.model.sha256,
                "spacing_mm": list(row.spacing_mm),
                "image": image,
                "label": row.label,
                "nodules": list(row.nodules),
            }
            for row, identity, (_, replicate), image in zip(sources, identities, wanted, images, strict=True)
        ]


def sample_identity(seed: int, row: SliceRow, replicate: int) -> tuple[int | str, ...]:
    """What decides the noise of an image, and so tells it from all others of a model."""
    return (seed, row.series_uid, row.slice_index, replicate, NO_EDIT)


def sample_id(identity: Sequence[int | str]) -> str:
    """The short name of an image: the first 80 bits of the digest of its identity."""
    names = ("seed", "source_series_uid", "source_slice_index", "replicate", "edit")
    return digest(dict(zip(names, identity, strict=True)))[:20]

"""Drawing the images of a unit: what each worker does, without Ray."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from lungforge.config import digest
from lungforge.ct import classes
from lungforge.ct.edits import EditedMap, EditName, edit_map, edits_for
from lungforge.datasets import Dataset, DatasetWriter, Kind, Parent, Part, table_from_rows
from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import RowIndex, SliceRow
from lungforge.errors import InputError
from lungforge.models.generators import DiffusionPainter, load_painter, network_config
from lungforge.models.sdm.config import UNetConfig
from lungforge.randomness import numpy_generator
from services.sample.config import SampleConfig
from services.sample.plan import Unit

#: How far around an edit a slice is drawn anew, in mm and at least in px: a nodule's edge is blurred by the
#: scanner, and its vessels lead to it.
INPAINTED_MM = 5.0
INPAINTED_PX = 2


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


@dataclass(frozen=True)
class Wanted:
    """An image that is to be drawn.

    Attributes:
        identity: What decides its noise, and so tells it from all others of a model.
        row: The slice that its map comes from, or the patch of it.
        replicate: Which of the slice's images it is.
        corner: Row and column of the patch's first pixel in the slice; 0 and 0 of a whole slice.
        edited: Its map.
    """

    identity: tuple[int | str, ...]
    row: SliceRow
    replicate: int
    corner: tuple[int, int]
    edited: EditedMap


def check_model(model: Dataset, index: RowIndex, *, inpaint: bool = False) -> int | None:
    """Hold a model against the maps that it is to draw from, without reading its weights.

    Args:
        model: The model.
        index: The maps.
        inpaint: Whether it is to draw parts of slices.

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
    if inpaint and not isinstance(shape, UNetConfig):
        raise InputError(f"the model {model.uri} is no diffusion model, which --inpaint needs; leave it out")
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
        """Draw and write a unit, unless an earlier run has. It has fewer rows where an edit had no room."""
        found = self.work.writer.find_part(unit.name)
        if found is not None:
            return found
        wanted = self._wanted(unit)
        rows: list[dict] = []
        for start in range(0, len(wanted), self.work.config.batch):
            rows += self._draw_batch(wanted[start : start + self.work.config.batch])
        size = self.work.patch
        shape = self.work.index.size if size is None else (size, size)
        return self.work.writer.write_part(unit.name, table_from_rows(Kind.SAMPLES, rows, shape=shape))

    def time_batch(self, unit: Unit) -> float:
        """Draw the first batch of a unit, twice, and write nothing: seconds an image, of the second time."""
        batch = self._wanted(unit)[: self.work.config.batch]
        if not batch:
            raise InputError("the first edits have no room, so there is nothing to time; give other --edits")
        self._draw_batch(batch)
        started = time.perf_counter()
        self._draw_batch(batch)
        return (time.perf_counter() - started) / len(batch)

    def _wanted(self, unit: Unit) -> list[Wanted]:
        distinct = np.unique(unit.rows)
        sources = dict(zip(distinct.tolist(), self.work.index.read(distinct), strict=True))
        images = zip(unit.rows.tolist(), unit.replicates.tolist(), strict=True)
        found = (want(self.work, sources[row], replicate) for row, replicate in images)
        return [wanted for wanted in found if wanted is not None]

    def _draw_batch(self, wanted: Sequence[Wanted]) -> list[dict]:
        labels = np.stack([each.edited.label for each in wanted])
        identities = [each.identity for each in wanted]
        if self.work.config.inpaint:
            assert isinstance(self._painter, DiffusionPainter), "held against the model before"
            images = self._painter.inpaint(
                labels,
                identities,
                np.stack([each.row.image for each in wanted]),
                np.stack([surroundings(each.edited.changed, each.row.spacing_mm) for each in wanted]),
            )
        else:
            images = self._painter.draw(labels, identities)
        return [self._row(each, image) for each, image in zip(wanted, images, strict=True)]

    def _row(self, wanted: Wanted, image: np.ndarray) -> dict:
        work, row = self.work, wanted.row
        return {
            "sample_id": sample_id(wanted.identity),
            "source_series_uid": row.series_uid,
            "source_slice_index": row.slice_index,
            "source_top": wanted.corner[0],
            "source_left": wanted.corner[1],
            "subset": row.subset,
            "replicate": wanted.replicate,
            "seed": work.config.seed,
            "edit": wanted.edited.edit,
            "inpainted": work.config.inpaint,
            "sampler": self._painter.sampler,
            "steps": self._painter.steps,
            "guidance": self._painter.guidance,
            "model_sha256": work.model.sha256,
            "spacing_mm": list(row.spacing_mm),
            "image": image,
            "label": wanted.edited.label,
            "nodules": list(wanted.edited.nodules),
        }


def want(work: Work, row: SliceRow, replicate: int) -> Wanted | None:
    """Choose the edit of an image, and make its map; None where the edit has no room."""
    config = work.config
    edit = choose_edit(config, row, replicate)
    identity = sample_identity(config, row, replicate, edit)
    corner = (0, 0)
    if work.patch is not None:
        corner = patch_corner(row, work.patch, numpy_generator(*identity, "patch"))
        row = patch_at(row, work.patch, corner)
    edited = edit_map(
        edit,
        row.label,
        row.nodules,
        spacing_mm=row.spacing_mm,
        generator=numpy_generator(*identity, "edit"),
        diameters_mm=work.index.diameters_mm,
    )
    return None if edited is None else Wanted(identity, row, replicate, corner, edited)


def choose_edit(config: SampleConfig, row: SliceRow, replicate: int) -> EditName:
    """One of the edits that a slice allows, by their weights."""
    possible = edits_for(bool(row.nodules))
    choices = [(name, weight) for name, weight in config.edits if name in possible]
    assert choices, "the plan has no image of a slice that allows none"
    weights = np.array([weight for _, weight in choices])
    generator = numpy_generator(config.seed, row.series_uid, row.slice_index, replicate, "choice")
    return choices[int(generator.choice(len(choices), p=weights / weights.sum()))][0]


def surroundings(changed: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """What is drawn anew around an edit, bool [H, W]: all that is near to a pixel whose class has changed.

    Args:
        changed: bool [H, W], not all False.
        spacing_mm: Distance between pixel centres (row, column).
    """
    in_mm = ndimage.distance_transform_edt(~changed, sampling=spacing_mm)
    in_px = ndimage.distance_transform_edt(~changed)
    return (in_mm <= INPAINTED_MM) | (in_px <= INPAINTED_PX)


def sample_identity(
    config: SampleConfig, row: SliceRow, replicate: int, edit: EditName
) -> tuple[int | str, ...]:
    """What decides the noise of an image, and so tells it from all others of a model."""
    kind = f"{edit}, inpainted" if config.inpaint else edit
    return (config.seed, row.series_uid, row.slice_index, replicate, kind)


def sample_id(identity: Sequence[int | str]) -> str:
    """The short name of an image: the first 80 bits of the digest of its identity."""
    names = ("seed", "source_series_uid", "source_slice_index", "replicate", "edit")
    return digest(dict(zip(names, identity, strict=True)))[:20]

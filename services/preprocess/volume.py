"""The work on one volume: read what is needed of it, make its rows, put them down as one part."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import SimpleITK
from numpy.typing import NDArray

from lungforge.ct.classes import LEFT_LUNG, RIGHT_LUNG
from lungforge.ct.crops import CROP_SIZE, cut_crop
from lungforge.ct.io.volume import read_slices, read_volume
from lungforge.ct.nodules import nodules_in_slice
from lungforge.ct.resize import resize_slice
from lungforge.ct.segmentation.anatomy import anatomy_from_luna, derive_anatomy
from lungforge.datasets import DatasetWriter, Kind, Part, table_from_rows
from lungforge.errors import InputError
from lungforge.storage import StoreError
from services.common import telemetry
from services.preprocess.config import PreprocessConfig
from services.preprocess.plan import Plan, Unit, plan_volume

#: The pauses before a volume is tried again, when storage failed under it; then the job ends.
_PAUSES_S = (1.0, 5.0)

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one volume; small, whatever the volume's size."""

    unit: str
    series_uid: str
    subset: int
    rejected: str | None = None
    """Why the volume is not used; then nothing else holds."""
    shape: tuple[int, int] | None = None
    """H, W of its images, if it gave any."""
    slices: Part | None = None
    crops: Part | None = None
    slices_with_nodules: int = 0
    nodules: int = 0
    """Annotated nodules that cross the slices taken."""
    nodule_crops: int = 0
    derived: bool = False
    """Whether its lungs were derived."""
    lost: tuple[str, ...] = ()
    """Annotations that lie outside the volume."""
    skipped: tuple[str, ...] = ()
    """Other findings that are not used."""
    resumed: bool = False
    """Whether an earlier run had made all of it."""

    @property
    def name(self) -> str:
        """In one word: ``done``, ``found`` whole, or ``rejected``."""
        if self.rejected is not None:
            return "rejected"
        return "found" if self.resumed and (self.slices or self.crops) else "done"


@dataclasses.dataclass(frozen=True)
class VolumeTask:
    """Makes the parts of a volume. Plain data: it goes to other processes as it is."""

    config: PreprocessConfig
    slices: DatasetWriter
    crops: DatasetWriter

    def __call__(self, unit: Unit) -> Outcome:
        """Work on one volume; a part that an earlier run left whole is not made again.

        Raises:
            StoreError, OSError: The source's or the output's storage fails, also after further tries.
        """
        _use_one_core()
        return _with_further_tries(lambda: self._work(unit))

    def _work(self, unit: Unit) -> Outcome:
        outcome = Outcome(unit.name, unit.entry.series_uid, unit.entry.subset)
        try:
            with telemetry.stall("preprocess"):
                plan = plan_volume(unit, self.config)
        except InputError as error:
            return dataclasses.replace(outcome, rejected=str(error))
        wants_slices = bool(plan.slices) or wants_healthy(plan, self.config)
        slices = self.slices.find_part(unit.name) if wants_slices else None
        crops = self.crops.find_part(unit.name) if plan.crops else None
        resumed = (slices is not None or not wants_slices) and (crops is not None or not plan.crops)
        if not resumed:
            try:
                rows, crop_rows = make_rows(unit, plan, self.config)
            except InputError as error:
                return dataclasses.replace(outcome, rejected=str(error))
            if slices is None and rows:
                slices = self.slices.write_part(unit.name, table_from_rows(Kind.SLICES, rows))
            if crops is None and crop_rows:
                table = table_from_rows(Kind.CROPS, crop_rows, shape=(CROP_SIZE, CROP_SIZE))
                crops = self.crops.write_part(unit.name, table)
        # All that follows is known without the rows, so that a resumed job tells the same.
        taken = set(plan.slices)
        shown = [nodule for nodule in plan.nodules if taken & nodule.masks.keys()]
        return dataclasses.replace(
            outcome,
            shape=plan.pixel_map.shape if slices else None,
            slices=slices,
            crops=crops,
            slices_with_nodules=len(taken & {index for nodule in plan.nodules for index in nodule.masks}),
            nodules=len(shown),
            nodule_crops=sum(candidate.label for candidate in plan.crops),
            derived=plan.mask_uri is None,
            lost=plan.lost,
            skipped=plan.skipped,
            resumed=resumed,
        )


def make_rows(
    unit: Unit, plan: Plan, config: PreprocessConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make the rows of a volume; only the slices that are wanted are read where the file allows it.

    Returns:
        The rows of the slices, and of the crops.

    Raises:
        InputError: The volume or its mask is damaged.
    """
    crop_slices = {candidate.slice_index for candidate in plan.crops}
    anatomy: dict[int, NDArray[np.uint8]] = {}
    if plan.mask_uri is None and (plan.slices or wants_healthy(plan, config)):
        volume = _read_whole(unit.entry.uri)
        whole = derive_anatomy(volume, plan.geometry)
        wanted = _with_healthy(plan, config, (whole == LEFT_LUNG) | (whole == RIGHT_LUNG))
        anatomy = {index: whole[index] for index in wanted}
        hu = {index: volume[index] for index in crop_slices | set(wanted)}
    elif plan.mask_uri is not None and wants_healthy(plan, config):
        mask = _read_whole(plan.mask_uri)  # 3: left lung, 4: right lung
        wanted = _with_healthy(plan, config, (mask == 3) | (mask == 4))
        hu = _read(unit.entry.uri, crop_slices | set(wanted))
        anatomy = {index: anatomy_from_luna(mask[index][None], hu[index][None])[0] for index in wanted}
    else:
        wanted = plan.slices
        hu = _read(unit.entry.uri, crop_slices | set(wanted))
        if plan.mask_uri is not None and wanted:
            masks = _read(plan.mask_uri, set(wanted))
            anatomy = {index: anatomy_from_luna(masks[index][None], hu[index][None])[0] for index in wanted}
    slice_rows = [_slice_row(unit, plan, index, hu[index], anatomy[index]) for index in wanted]
    crop_rows = [
        {
            "series_uid": unit.entry.series_uid,
            "subset": unit.entry.subset,
            "slice_index": candidate.slice_index,
            "x": candidate.x,
            "y": candidate.y,
            "label": candidate.label,
            "image": cut_crop(hu[candidate.slice_index], candidate.x, candidate.y),
        }
        for candidate in plan.crops
    ]
    return slice_rows, crop_rows


def wants_healthy(plan: Plan, config: PreprocessConfig) -> bool:
    """Whether healthy slices are asked for, and can be told from others."""
    return config.healthy_every > 0 and plan.knows_healthy


def _with_healthy(plan: Plan, config: PreprocessConfig, lung: NDArray[np.bool_]) -> tuple[int, ...]:
    if not wants_healthy(plan, config):
        return plan.slices
    with_lung = np.flatnonzero(lung.any(axis=(1, 2))).tolist()
    healthy = [index for index in with_lung if index not in plan.crossed]
    return tuple(sorted({*plan.slices, *healthy[:: config.healthy_every]}))


def _read(uri: str, indices: set[int]) -> dict[int, NDArray[np.int16]]:
    ordered = sorted(indices)
    if not ordered:
        return {}
    with telemetry.stall("preprocess"):
        return dict(zip(ordered, read_slices(uri, ordered), strict=True))


def _read_whole(uri: str) -> NDArray[np.int16]:
    with telemetry.stall("preprocess"):
        return read_volume(uri).hu


def _slice_row(
    unit: Unit, plan: Plan, index: int, hu: NDArray[np.int16], anatomy: NDArray[np.uint8]
) -> dict[str, Any]:
    columns, rows, _ = plan.geometry.size
    found = nodules_in_slice(plan.nodules, index, hu, plan.geometry)
    image, label, nodules = resize_slice(hu, anatomy, found, plan.pixel_map)
    height, width = plan.pixel_map.shape
    return {
        "series_uid": unit.entry.series_uid,
        "subset": unit.entry.subset,
        "slice_index": index,
        # The height of the slice's middle; the same everywhere on it unless the gantry was tilted.
        "z_mm": float(plan.geometry.index_to_world([(columns - 1) / 2, (rows - 1) / 2, index])[2]),
        "spacing_mm": list(plan.pixel_map.spacing_mm),
        "image": image,
        "label": label,
        # A nodule that the image's edge cuts stays in the map, but is listed only with its centre.
        "nodules": [
            nodule.row()
            for nodule in nodules
            if -0.5 <= nodule.x <= width - 0.5 and -0.5 <= nodule.y <= height - 0.5
        ],
    }


def _with_further_tries(work: Callable[[], Result]) -> Result:
    """Object storage has hiccups; what is wrong after three tries is wrong."""
    for pause in _PAUSES_S:
        try:
            return work()
        except (StoreError, OSError):
            telemetry.retry("preprocess")
            time.sleep(pause)
    return work()


def _use_one_core() -> None:
    # The volumes are worked on side by side; threads within each would only get in each other's way.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    pa.set_cpu_count(1)

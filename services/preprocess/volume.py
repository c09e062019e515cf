"""The work on one volume: read what is needed of it, make its rows, write them as one part."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import SimpleITK
from numpy.typing import NDArray

from lungforge.ct.classes import LEFT_LUNG, LUNA16_MASK_VALUES, RIGHT_LUNG
from lungforge.ct.crops import CROP_SIZE, cut_crop
from lungforge.ct.io.axial_ct import check_lungs, check_values
from lungforge.ct.io.luna16 import SeriesEntry
from lungforge.ct.io.volume import read_slices, read_volume
from lungforge.ct.nodules import nodule_rows, nodules_in_slice
from lungforge.ct.resize import resize_slice
from lungforge.ct.segmentation.anatomy import anatomy_from_luna, derive_anatomy
from lungforge.datasets import DatasetWriter, Kind, Part, table_from_rows
from lungforge.errors import ContentError
from services.common import telemetry
from services.common.errors import reason_of
from services.common.progress import say
from services.preprocess.config import PreprocessConfig
from services.preprocess.plan import VolumePlan, plan_volume, unforeseen_is_content
from services.preprocess.refusals import OutsideAnnotation
from services.preprocess.survey import SourceVolume

#: The pauses before another try of what storage refuses; then the job ends.
PAUSES_S = (1.0, 5.0)

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class VolumeOutcome:
    """What became of one volume; small, whatever the volume's size."""

    part_name: str
    series_uid: str
    subset: int
    rejected: str | None = None
    """Why the volume is not used; then the fields below have no meaning."""
    took_down: bool = False
    """Whether that is because workers died of it."""
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
    outside: tuple[str, ...] = ()
    """Which annotations are not used, because they lie outside the volume."""
    skipped: tuple[str, ...] = ()
    """Other nodules and candidates that are not used, and why."""
    excluded: tuple[tuple[float, float, float, float], ...] = ()
    """Its excluded findings, in the frame of its images, as the plan has them."""
    resumed: bool = False
    """Whether an earlier run had made all of it."""

    @property
    def outside_annotations(self) -> list[OutsideAnnotation]:
        """The annotations that lie outside a volume that is used."""
        return [OutsideAnnotation(self.series_uid, reason) for reason in self.outside]

    @property
    def state(self) -> str:
        """In one word: ``done``, ``resumed`` (whole from an earlier run), or ``rejected``."""
        if self.rejected is not None:
            return "rejected"
        return "resumed" if self.resumed and (self.slices or self.crops) else "done"


@dataclasses.dataclass(frozen=True)
class VolumeTask:
    """Makes the parts of a volume. Plain data: it goes to other processes as it is."""

    config: PreprocessConfig
    slices: DatasetWriter
    crops: DatasetWriter

    def __call__(self, volume: SourceVolume) -> VolumeOutcome:
        """Work on one volume; a part that an earlier run left whole is not made again.

        Raises:
            AccessError, OSError: The storage of the source or of the output refuses, also after more tries.
        """
        _use_one_core()
        return with_patience(lambda: self._work(volume))

    def _work(self, volume: SourceVolume) -> VolumeOutcome:
        outcome = VolumeOutcome(volume.part_name, volume.entry.series_uid, volume.entry.subset)
        try:
            with unforeseen_is_content():
                with telemetry.stall("preprocess"):
                    plan = plan_volume(volume, self.config)
                return self._make(volume, plan, outcome)
        except ContentError as error:
            return dataclasses.replace(outcome, rejected=str(error))

    def _make(self, volume: SourceVolume, plan: VolumePlan, outcome: VolumeOutcome) -> VolumeOutcome:
        wants_slices = bool(plan.slices) or wants_healthy(plan, self.config)
        slices = self.slices.find_part(volume.part_name) if wants_slices else None
        crops = self.crops.find_part(volume.part_name) if plan.crops else None
        resumed = (slices is not None or not wants_slices) and (crops is not None or not plan.crops)
        if not resumed:
            rows, crop_rows = make_rows(volume, plan, self.config)
            if slices is None and rows:
                slices = self.slices.write_part(volume.part_name, table_from_rows(Kind.SLICES, rows))
            if crops is None and crop_rows:
                table = table_from_rows(Kind.CROPS, crop_rows, shape=(CROP_SIZE, CROP_SIZE))
                crops = self.crops.write_part(volume.part_name, table)
        # The rest is known without the rows, so that a resumed job reports the same.
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
            outside=plan.outside,
            skipped=plan.skipped,
            excluded=plan.excluded,
            resumed=resumed,
        )


def make_rows(
    volume: SourceVolume, plan: VolumePlan, config: PreprocessConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make the rows of a volume; only the slices that are needed are read where the file allows it.

    Returns:
        The rows of the slices, and of the crops.

    Raises:
        ContentError: The volume or its mask is damaged.
        AccessError: It cannot be read now.
    """
    crop_slices = {candidate.slice_index for candidate in plan.crops}
    hu, anatomy = _read_slices(volume.entry, plan, config, crop_slices)
    slice_rows = [_slice_row(volume.entry, plan, index, hu[index], anatomy[index]) for index in anatomy]
    crop_rows = [
        {
            "series_uid": volume.entry.series_uid,
            "subset": volume.entry.subset,
            "slice_index": candidate.slice_index,
            "x": candidate.x,
            "y": candidate.y,
            "label": candidate.label,
            "image": cut_crop(hu[candidate.slice_index], candidate.x, candidate.y),
        }
        for candidate in plan.crops
    ]
    return slice_rows, crop_rows


def _read_slices(
    entry: SeriesEntry, plan: VolumePlan, config: PreprocessConfig, crop_slices: set[int]
) -> tuple[dict[int, NDArray[np.int16]], dict[int, NDArray[np.uint8]]]:
    """Slice index to Hounsfield units, of all slices that are needed; and to anatomy, of those to take."""
    if plan.mask_uri is None and (plan.slices or wants_healthy(plan, config)):
        whole_hu = _read_whole(entry.uri, entry)
        check_values(entry.uri, whole_hu)
        whole = derive_anatomy(whole_hu, plan.geometry)
        check_lungs(entry.uri, whole)
        taken = _with_healthy(plan, config, (whole == LEFT_LUNG) | (whole == RIGHT_LUNG))
        hu = {index: whole_hu[index] for index in crop_slices | set(taken)}
        return hu, {index: whole[index] for index in taken}
    taken, masks = plan.slices, {}
    if plan.mask_uri is not None and wants_healthy(plan, config):
        mask = _read_whole(plan.mask_uri, entry)
        lung = np.isin(mask, (LUNA16_MASK_VALUES[LEFT_LUNG], LUNA16_MASK_VALUES[RIGHT_LUNG]))
        taken = _with_healthy(plan, config, lung)
        masks = {index: mask[index] for index in taken}
    hu = _read(entry.uri, crop_slices | set(taken), entry)
    check_values(entry.uri, hu.values())
    if plan.mask_uri is not None and not masks:
        masks = _read(plan.mask_uri, set(taken), entry)
    _require_luna_values(masks.values(), plan.mask_uri)
    return hu, {index: anatomy_from_luna(masks[index][None], hu[index][None])[0] for index in taken}


def wants_healthy(plan: VolumePlan, config: PreprocessConfig) -> bool:
    """Whether healthy slices are asked for, and known."""
    return config.healthy_every > 0 and plan.knows_healthy


def _with_healthy(plan: VolumePlan, config: PreprocessConfig, lung: NDArray[np.bool_]) -> tuple[int, ...]:
    if not wants_healthy(plan, config):
        return plan.slices
    with_lung = np.flatnonzero(lung.any(axis=(1, 2))).tolist()
    healthy = [index for index in with_lung if index not in plan.crossed]
    return tuple(sorted({*plan.slices, *healthy[:: config.healthy_every]}))


def _read(uri: str, indices: set[int], entry: SeriesEntry) -> dict[int, NDArray[np.int16]]:
    ordered = sorted(indices)
    if not ordered:
        return {}
    with telemetry.stall("preprocess"):
        slices = read_slices(uri, ordered, files=entry.files, listed=entry.listed)
    return dict(zip(ordered, slices, strict=True))


def _read_whole(uri: str, entry: SeriesEntry) -> NDArray[np.int16]:
    with telemetry.stall("preprocess"):
        return read_volume(uri, files=entry.files, listed=entry.listed).hu


def _require_luna_values(masks: Iterable[NDArray[np.int16]], uri: str | None) -> None:
    """Refuse a mask that marks something, but nothing by the values of LUNA16: its lungs would be body."""
    marked = [mask for mask in masks if mask.any()]
    if marked and not any(np.isin(mask, list(LUNA16_MASK_VALUES.values())).any() for mask in marked):
        values = sorted({int(value) for mask in marked for value in np.unique(mask)} - {0})
        raise ContentError(
            f"{uri}: its values are {', '.join(map(str, values[:5]))}, and those of a lung mask of LUNA16 "
            "3, 4 and 5; take --masks derived"
        )


def _slice_row(
    entry: SeriesEntry, plan: VolumePlan, index: int, hu: NDArray[np.int16], anatomy: NDArray[np.uint8]
) -> dict[str, Any]:
    columns, rows, _ = plan.geometry.size
    shown = nodules_in_slice(plan.nodules, index, hu, plan.geometry)
    image, label, nodules = resize_slice(hu, anatomy, shown, plan.pixel_map)
    return {
        "series_uid": entry.series_uid,
        "subset": entry.subset,
        "slice_index": index,
        # The height of the slice's middle; the same everywhere on it unless the gantry was tilted.
        "z_mm": float(plan.geometry.index_to_world([(columns - 1) / 2, (rows - 1) / 2, index])[2]),
        "spacing_mm": list(plan.pixel_map.spacing_mm),
        "image": image,
        "label": label,
        "nodules": nodule_rows(nodules, plan.pixel_map.shape),
    }


def with_patience(work: Callable[[], Result]) -> Result:
    """Do something that reads or writes, and again after a pause when the storage refuses: it has hiccups.

    Raises:
        AccessError, OSError: It refuses also after ``PAUSES_S``.
    """
    for pause in PAUSES_S:
        try:
            return work()
        except OSError as error:
            telemetry.retry("preprocess")
            say(f"{reason_of(error)}; tried again in {pause:g} s")
            time.sleep(pause)
    return work()


def _use_one_core() -> None:
    # The volumes are worked on side by side; threads within each would only get in each other's way.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    pa.set_cpu_count(1)

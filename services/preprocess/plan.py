"""What is to be made of each volume, decided from its header and the tables alone."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lungforge.ct.crops import PlacedCandidate, choose_candidates
from lungforge.ct.io.axial_ct import check_header
from lungforge.ct.io.luna16 import SeriesEntry, list_series
from lungforge.ct.io.luna16_tables import Annotation, Candidate, read_annotations, read_candidates
from lungforge.ct.io.volume import Geometry, VolumeError, read_geometry, read_header
from lungforge.ct.lidc_outlines import consensus_nodules, read_outlines
from lungforge.ct.nodules import Nodule, sphere_nodules
from lungforge.ct.resize import PixelMap
from lungforge.errors import ContentError, InputError
from services.preprocess.config import PreprocessConfig

#: Headers that a dry run reads at a time: on object storage each is a few round trips.
_READERS = 16


@dataclass(frozen=True)
class SourceVolume:
    """One volume of the source, with its rows of the tables."""

    entry: SeriesEntry
    annotations: tuple[Annotation, ...] = ()
    candidates: tuple[Candidate, ...] = ()

    @property
    def part_name(self) -> str:
        """The name of its parts."""
        subset = "x" if self.entry.subset < 0 else str(self.entry.subset)
        return f"subset{subset}-{re.sub('[^A-Za-z0-9._-]', '_', self.entry.series_uid)}"


@dataclass(frozen=True)
class Rejection:
    """Something of the source that is not used, and why."""

    series_uid: str
    """The series; for a table its file name."""
    reason: str


@dataclass(frozen=True)
class SourceSurvey:
    """What a source offers to a job."""

    volumes: tuple[SourceVolume, ...]
    rejected: tuple[Rejection, ...] = ()
    annotations_without_scan: int = 0
    crops: bool = False
    """Whether crops can be made: they are asked for, and candidates_V2.csv can be read."""


@dataclass(frozen=True)
class VolumePlan:
    """What is to be made of one volume."""

    geometry: Geometry
    pixel_map: PixelMap
    mask_uri: str | None
    """The lung mask to use; None: derive it."""
    nodules: tuple[Nodule, ...]
    """All nodules of the volume."""
    chosen: tuple[Nodule, ...]
    """The nodules that select slices."""
    crossed: frozenset[int]
    """Slices that any nodule crosses, of annotations.csv or of the outlines: none of them is healthy."""
    slices: tuple[int, ...]
    """The slices to take, in order, without the healthy ones: to know those, the lungs are needed."""
    crops: tuple[PlacedCandidate, ...] = ()
    outside: tuple[str, ...] = ()
    """Why annotations are rejected: they lie outside the volume, so the table or the header is wrong."""
    skipped: tuple[str, ...] = ()
    """Other nodules and candidates that are not used, and why."""

    @property
    def knows_healthy(self) -> bool:
        """Whether healthy slices are known: a nodule of unknown place may be on any slice."""
        return not self.outside


def survey(config: PreprocessConfig) -> SourceSurvey:
    """List the volumes of the source and give each its rows of the tables; reads no volume.

    Raises:
        InputError: There is no such source, no series in the subsets, or annotations.csv is needed and
            missing or wrong. (A wrong candidates_V2.csv prevents only the crops: it is rejected.)
        AccessError: The source cannot be read now.
    """
    source = list_series(config.source)
    entries = [entry for entry in source.entries if config.subsets is None or entry.subset in config.subsets]
    rejected = [Rejection(series.series_uid, series.reason) for series in source.rejected]
    if not entries:
        if config.subsets is not None and source.entries:
            present = sorted({entry.subset for entry in source.entries})
            raise InputError(
                f"{config.source}: no series in the subsets {config.subsets}; there are {present}"
            )
        raise no_good_volume(config, rejected)
    annotations: dict[str, list[Annotation]] = {}
    if source.annotations_uri is not None:
        annotations = read_annotations(source.annotations_uri)
    elif config.lidc_database is None and (config.slices != "all" or config.healthy_every):
        raise InputError(
            f"{config.source}: there is no annotations.csv, so no nodule is known; "
            "add it, give --lidc-database, or take every slice without nodules by --slices all"
        )
    candidates: dict[str, list[Candidate]] = {}
    if config.crops and source.candidates_uri is None:
        raise InputError(f"{config.source}: there is no candidates_V2.csv, which --crops needs")
    crops = False
    if config.crops and source.candidates_uri is not None:
        try:
            candidates = read_candidates(source.candidates_uri)
            crops = True
        except ContentError as error:
            rejected.append(Rejection("candidates_V2.csv", f"no crops are made: {error}"))
    known = {entry.series_uid for entry in source.entries}
    return SourceSurvey(
        volumes=tuple(
            SourceVolume(
                entry,
                tuple(annotations.get(entry.series_uid, ())),
                _useful(candidates.get(entry.series_uid, [])),
            )
            for entry in entries
        ),
        rejected=tuple(rejected),
        annotations_without_scan=sum(len(rows) for uid, rows in annotations.items() if uid not in known),
        crops=crops,
    )


def no_good_volume(config: PreprocessConfig, rejected: Sequence[Rejection]) -> InputError:
    """The error for a source that holds nothing of use."""
    first = (
        f"; the first of {len(rejected)}: {rejected[0].series_uid}: {rejected[0].reason}" if rejected else ""
    )
    return InputError(f"{config.source}: there is no good volume{first}")


def plan_volume(volume: SourceVolume, config: PreprocessConfig) -> VolumePlan:
    """Decide what is made of a volume, from its header and its rows of the tables.

    Raises:
        ContentError: The volume is bad; says why.
        InputError: There is no such ``lidc_database``.
        AccessError: The volume cannot be read now.
    """
    entry = volume.entry
    header = read_header(entry.uri, files=entry.files, listed=entry.listed)
    check_header(entry.uri, header)
    geometry = header.geometry
    mask_uri = _mask(entry, geometry, config)
    nodules, outside = sphere_nodules(volume.annotations, geometry)
    crossed = {index for nodule in nodules for index in nodule.masks}
    skipped: list[str] = []
    if config.lidc_database is not None:
        scan = read_outlines(config.lidc_database, entry.series_uid)
        if scan is not None:
            nodules, disagreed = consensus_nodules(scan, geometry, readers=config.readers)
            skipped += disagreed
            crossed |= {index for nodule in nodules for index in nodule.masks}
    columns, rows, depth = geometry.size
    spacing = (geometry.spacing_mm[1], geometry.spacing_mm[0])
    pixel_map = PixelMap.fit((rows, columns), spacing, size=config.size, spacing_mm=config.spacing_mm)
    chosen = []
    for nodule in nodules:
        x, y = pixel_map.point(*nodule.centre[:2])
        if not (-0.5 <= x <= pixel_map.shape[1] - 0.5 and -0.5 <= y <= pixel_map.shape[0] - 0.5):
            skipped.append(
                f"the nodule at pixel ({x:.1f}, {y:.1f}) lies beyond the image's {pixel_map.shape}"
            )
        elif nodule.diameter_mm >= config.minimum_diameter_mm:
            chosen.append(nodule)
    if config.slices == "all":
        slices = set(range(depth))
    elif config.slices == "nodules":
        slices = {index for nodule in chosen for index in nodule.masks}
    else:
        slices = {nodule.centre_slice for nodule in chosen if nodule.centre_slice is not None}
    crops, crops_outside = choose_candidates(volume.candidates, geometry, seed=config.seed)
    return VolumePlan(
        geometry=geometry,
        pixel_map=pixel_map,
        mask_uri=mask_uri,
        nodules=tuple(nodules),
        chosen=tuple(chosen),
        crossed=frozenset(crossed),
        slices=tuple(sorted(slices)),
        crops=tuple(crops),
        outside=tuple(outside),
        skipped=tuple(skipped + crops_outside),
    )


def plan_all(volumes: tuple[SourceVolume, ...], config: PreprocessConfig) -> list[VolumePlan | Rejection]:
    """Plan every volume, several headers at a time; in the order of the volumes.

    Raises:
        AccessError: A volume cannot be read now.
    """

    def plan(volume: SourceVolume) -> VolumePlan | Rejection:
        try:
            return plan_volume(volume, config)
        except ContentError as error:
            return Rejection(volume.entry.series_uid, str(error))

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(plan, volumes))


def _mask(entry: SeriesEntry, geometry: Geometry, config: PreprocessConfig) -> str | None:
    if config.masks == "derived":
        return None
    if entry.lung_mask_uri is None:
        if config.masks == "luna16":
            raise VolumeError("seg-lungs-LUNA16 has no mask of it; --masks auto derives one")
        return None
    mask = read_geometry(entry.lung_mask_uri, listed=entry.listed)
    if mask.size != geometry.size:
        raise VolumeError(
            f"its lung mask has {mask.size} voxels and the volume {geometry.size}; take --masks derived"
        )
    return entry.lung_mask_uri


def _useful(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    # A scan without nodules gives no crops; its candidates need not travel.
    return tuple(candidates) if any(candidate.label == 1 for candidate in candidates) else ()

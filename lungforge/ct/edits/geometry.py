"""Geometry of edits: assignment of pixels to nodules, the class around a nodule, free area in a lung."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from lungforge.ct.boxes import bounding_box
from lungforge.ct.classes import BODY, COUNT, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.nodules import nearest_nodules

MARGIN_MM: Final = 2.0
"""Distance of moved and inserted nodules from everything but their lung, between pixel centres."""

EIGHT_NEIGHBOURS: Final = np.ones((3, 3), bool)

_STRAY_PX = 2.0
"""Downsampling a map may move the pixel of a small nodule this far from its centre, in px."""


@dataclass(frozen=True)
class VisibleNodule:
    """A listed nodule and its pixels in the map."""

    nodule: Mapping[str, float]
    """x, y, diameter_px and diameter_mm."""
    mask: NDArray[np.bool_]
    """Pixels of the nodule, shape [H, W], not empty."""

    @property
    def is_whole(self) -> bool:
        """Whether the nodule does not touch the edge of the image."""
        edges = (self.mask[0], self.mask[-1], self.mask[:, 0], self.mask[:, -1])
        return not any(edge.any() for edge in edges)


def visible_nodules(label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]]) -> list[VisibleNodule]:
    """Assign nodule pixels to the listed nodules: to the nearest, relative to the diameters.

    A connected component farther than a diameter (plus the shift by downsampling) from its nearest nodule
    stays unassigned: it is the visible part of a nodule that is not listed because its centre lies outside
    the image.

    Args:
        label: Classes, shape [H, W].
        nodules: The listed nodules.

    Returns:
        The nodules that have pixels, in the order of the list; if two share their only pixel, one of them.
    """
    rows, columns = np.nonzero(label == NODULE)
    if not nodules or not len(rows):
        return []
    owner, distance = nearest_nodules(rows, columns, nodules)
    shown = []
    for index, nodule in enumerate(nodules):
        mine = owner == index
        near = mine & (distance <= nodule["diameter_px"] + _STRAY_PX)
        if near.any():
            mask, seeds = np.zeros(label.shape, bool), np.zeros(label.shape, bool)
            mask[rows[mine], columns[mine]] = True
            seeds[rows[near], columns[near]] = True
            shown.append(VisibleNodule(nodule, _touching(mask, seeds)))
    return shown


def is_consistent(label: NDArray[np.uint8], expected: Sequence[VisibleNodule]) -> bool:
    """Whether the pixels of a map, assigned to the expected nodules, are the expected ones."""
    visible = visible_nodules(label, [each.nodule for each in expected])
    return len(visible) == len(expected) and all(
        np.array_equal(one.mask, other.mask) for one, other in zip(visible, expected, strict=True)
    )


def surrounding_class(label: NDArray[np.uint8], mask: NDArray[np.bool_]) -> int:
    """The class that replaces nodule pixels when the nodule is removed: the lung around it.

    Args:
        label: Classes, shape [H, W].
        mask: Pixels of nodules, shape [H, W]. Touching nodules count as one.

    Returns:
        Left or right lung, whichever has more neighbouring pixels; body if neither has any.
    """
    group = _touching(label == NODULE, mask)
    around = ndimage.binary_dilation(group, EIGHT_NEIGHBOURS) & ~group
    pixels = np.bincount(label[around], minlength=COUNT)
    lung = LEFT_LUNG if pixels[LEFT_LUNG] >= pixels[RIGHT_LUNG] else RIGHT_LUNG
    return lung if pixels[lung] else BODY


def free_area(lung: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """The pixels of a lung with nothing but that lung within the margin.

    The eight neighbours are always within the margin, however coarse the pixels. The edge of the image counts
    as wall.

    Args:
        lung: Mask of the lung, shape [H, W].
        spacing_mm: Pixel spacing (row, column).
    """
    padded = np.pad(lung, 1)
    to_wall_mm = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    room = (to_wall_mm > MARGIN_MM) & ndimage.binary_erosion(padded, EIGHT_NEIGHBOURS)
    return room[1:-1, 1:-1]


def placements(room: NDArray[np.bool_], shape: NDArray[np.bool_]) -> NDArray[np.intp]:
    """All positions where a shape lies entirely in the free area.

    Args:
        room: Mask of the free area, shape [H, W].
        shape: Mask of the shape, shape [h, w].

    Returns:
        (row, column) of the shape's top left corner, shape [N, 2]; N is 0 if it fits nowhere.
    """
    if not room.any():
        return np.empty((0, 2), np.intp)
    rows, columns = bounding_box(room)
    within = room[rows, columns]
    if shape.shape[0] > within.shape[0] or shape.shape[1] > within.shape[1]:
        return np.empty((0, 2), np.intp)
    # Counts by FFT: integers with errors below 1e-9.
    outside = signal.correlate((~within).astype(float), shape.astype(float), mode="valid", method="fft")
    return np.argwhere(outside < 0.5) + np.array([rows.start, columns.start])


def _touching(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected components of a mask that contain a seed."""
    return ndimage.binary_propagation(seeds, EIGHT_NEIGHBOURS, mask=mask)

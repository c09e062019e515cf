"""Which pixels are whose, which lung a nodule lies in, and where in a lung a shape has room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from lungforge.ct.classes import BODY, COUNT, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.nodules import nearest_nodules

Mask = NDArray[np.bool_]

MARGIN_MM: Final = 2.0
"""How far a nodule that is moved or inserted stays from all that is not its lung, between pixel centres."""

EIGHT_NEIGHBOURS: Final = np.ones((3, 3), bool)

_STRAY_PX = 2.0
"""Shrinking a map may carry the pixel of a small nodule this far from its centre, in px."""


@dataclass(frozen=True)
class ShownNodule:
    """A nodule of the list with its pixels in the map."""

    nodule: Mapping[str, float]
    """Its x, y, diameter_px and diameter_mm."""
    mask: Mask
    """Its pixels, shape [H, W], not empty."""

    @property
    def is_whole(self) -> bool:
        """Whether the image's edge cuts nothing off, as far as one can see."""
        edges = (self.mask[0], self.mask[-1], self.mask[:, 0], self.mask[:, -1])
        return not any(edge.any() for edge in edges)


def shown_nodules(label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]]) -> list[ShownNodule]:
    """Give each nodule its pixels: those whose nearest nodule it is, in diameters of the nodules.

    A piece of the map that comes nowhere within a diameter (and what shrinking may add) of its nearest
    nodule is none's: it is the visible part of a nodule whose centre lies beyond the image's edge, and so is
    not listed.

    Args:
        label: Classes, shape [H, W].
        nodules: The nodules in the list.

    Returns:
        The nodules that have pixels, in the order of the list. Of two that share their only pixel, one has.
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
            shown.append(ShownNodule(nodule, _touching(mask, seeds)))
    return shown


def shows(label: NDArray[np.uint8], expected: Sequence[ShownNodule]) -> bool:
    """Whether a map shows nodules as expected, so that whoever reads it finds each nodule's own pixels."""
    found = shown_nodules(label, [each.nodule for each in expected])
    return len(found) == len(expected) and all(
        np.array_equal(one.mask, other.mask) for one, other in zip(found, expected, strict=True)
    )


def home_of(label: NDArray[np.uint8], mask: Mask) -> int:
    """The class that nodule pixels have when there is no nodule: that of the lung around them.

    Args:
        label: Classes, shape [H, W].
        mask: Some pixels of nodules, shape [H, W]. Nodules that touch them are surrounded together.

    Returns:
        Left or right lung, whichever has more of the neighbouring pixels; body where neither has any.
    """
    group = _touching(label == NODULE, mask)
    around = ndimage.binary_dilation(group, EIGHT_NEIGHBOURS) & ~group
    pixels = np.bincount(label[around], minlength=COUNT)
    lung = LEFT_LUNG if pixels[LEFT_LUNG] >= pixels[RIGHT_LUNG] else RIGHT_LUNG
    return lung if pixels[lung] else BODY


def room_in(lung: Mask, spacing_mm: tuple[float, float]) -> Mask:
    """The pixels of a lung around which there is nothing but that lung, within the margin.

    The eight neighbours count as near however coarse the pixels, and what is beyond the image's edge as wall.

    Args:
        lung: Shape [H, W].
        spacing_mm: Distance between pixel centres (row, column).
    """
    padded = np.pad(lung, 1)
    to_wall_mm = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    room = (to_wall_mm > MARGIN_MM) & ndimage.binary_erosion(padded, EIGHT_NEIGHBOURS)
    return room[1:-1, 1:-1]


def placements(room: Mask, shape: Mask) -> NDArray[np.intp]:
    """Every place where a shape lies wholly in a room.

    Args:
        room: Shape [H, W].
        shape: Shape [h, w].

    Returns:
        (row, column) of the shape's corner, shape [N, 2]; N is 0 where it fits nowhere.
    """
    if not room.any():
        return np.empty((0, 2), np.intp)
    rows, columns = bounding_box(room)
    within = room[rows, columns]
    if shape.shape[0] > within.shape[0] or shape.shape[1] > within.shape[1]:
        return np.empty((0, 2), np.intp)
    # Counted by Fourier transforms: whole numbers, right to within 1e-9.
    outside = signal.correlate((~within).astype(float), shape.astype(float), mode="valid", method="fft")
    return np.argwhere(outside < 0.5) + np.array([rows.start, columns.start])


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that a mask, shape [H, W], touches."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return box


def _touching(mask: Mask, seeds: Mask) -> Mask:
    """The pieces of a mask that have a seed in them."""
    return ndimage.binary_propagation(seeds, EIGHT_NEIGHBOURS, mask=mask)

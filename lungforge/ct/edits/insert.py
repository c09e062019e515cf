"""Putting a nodule into a slice that has none."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import bounding_box, placements, room_in
from lungforge.ct.edits.outline import draw_outline, in_pixels
from lungforge.errors import InputError


def insert(
    label: NDArray[np.uint8],
    *,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
    diameters_mm: NDArray[np.float64],
) -> EditedMap | None:
    """Put an irregular nodule into a lung, clear of the wall.

    Its diameter is one of those given, each as likely; where that has no room, the largest smaller one that
    has. All places with room are as likely.

    Args:
        label: Classes, shape [H, W].
        spacing_mm: Distance between pixel centres (row, column).
        generator: Decides diameter, outline and place.
        diameters_mm: Diameters of the training nodules, shape [N].

    Returns:
        None when the map has a nodule, or no room for one.

    Raises:
        InputError: There is no diameter, or one is not positive.
    """
    diameters_mm = np.asarray(diameters_mm, np.float64)
    if not diameters_mm.size or not (np.isfinite(diameters_mm) & (diameters_mm > 0)).all():
        raise InputError(
            f"{diameters_mm.size} diameters in mm to draw from; insert needs at least one, all positive"
        )
    if (label == NODULE).any():
        return None
    # A nodule in both rooms would be in two pieces: the margins of the lungs lie between them.
    room = room_in(label == LEFT_LUNG, spacing_mm) | room_in(label == RIGHT_LUNG, spacing_mm)
    outline = draw_outline(generator)
    down, right = generator.uniform(-0.5, 0.5, 2).tolist()
    largest_mm = min(generator.choice(diameters_mm), _largest_mm(int(room.sum()), spacing_mm))
    for diameter_mm in np.unique(diameters_mm[diameters_mm <= largest_mm])[::-1].tolist():
        nodule = in_pixels(outline, diameter_mm, spacing_mm, (down, right))
        rows, columns = bounding_box(nodule.mask)
        shape = nodule.mask[rows, columns]
        places = placements(room, shape)
        if len(places):
            row, column = places[generator.integers(len(places))].tolist()
            after = label.copy()
            after[row : row + shape.shape[0], column : column + shape.shape[1]][shape] = NODULE
            placed = replace(nodule, x=nodule.x + column - columns.start, y=nodule.y + row - rows.start)
            return EditedMap.of("insert", label, after, [placed.row()])
    return None


def _largest_mm(pixels: int, spacing_mm: tuple[float, float]) -> float:
    """A diameter that no nodule of so many pixels exceeds; it may have half a pixel more before rounding."""
    return math.sqrt((pixels + 0.5) * spacing_mm[0] * spacing_mm[1] * 4 / math.pi) if pixels else 0.0

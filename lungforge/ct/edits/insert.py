"""Insert a nodule into a slice without nodules."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.boxes import bounding_box
from lungforge.ct.classes import LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import free_area, placements
from lungforge.ct.edits.outline import generate_outline, rasterise
from lungforge.errors import InputError


def insert(
    label: NDArray[np.uint8],
    *,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
    diameters_mm: NDArray[np.float64],
) -> EditedMap | None:
    """Insert an irregular nodule into a lung, clear of the wall.

    The diameter is sampled uniformly from those given; if it does not fit, the largest smaller one that fits
    is used. The position is uniform over all that fit.

    Args:
        label: Classes, shape [H, W].
        spacing_mm: Pixel spacing (row, column).
        generator: Decides diameter, outline and position.
        diameters_mm: Diameters of the training nodules, shape [N].

    Returns:
        The edited map; None if the map has a nodule, or no room for one.

    Raises:
        InputError: There is no diameter, or one is not positive.
    """
    diameters_mm = np.asarray(diameters_mm, np.float64)
    if not diameters_mm.size or not (np.isfinite(diameters_mm) & (diameters_mm > 0)).all():
        raise InputError(
            f"{diameters_mm.size} diameters in mm to sample from; insert needs at least one, all positive"
        )
    if (label == NODULE).any():
        return None
    # No shape can span both lungs: their margins separate the free areas.
    room = free_area(label == LEFT_LUNG, spacing_mm) | free_area(label == RIGHT_LUNG, spacing_mm)
    outline = generate_outline(generator)
    down, right = generator.uniform(-0.5, 0.5, 2).tolist()
    largest_mm = min(generator.choice(diameters_mm), _largest_mm(int(room.sum()), spacing_mm))
    for diameter_mm in np.unique(diameters_mm[diameters_mm <= largest_mm])[::-1].tolist():
        nodule = rasterise(outline, diameter_mm, spacing_mm, (down, right))
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
    """Upper bound of the diameter of a nodule of so many pixels; rounding may take off half a pixel."""
    return math.sqrt((pixels + 0.5) * spacing_mm[0] * spacing_mm[1] * 4 / math.pi) if pixels else 0.0

"""Apply an edit by name."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.edits.edited_map import EDITS, EditedMap, EditName
from lungforge.ct.edits.insert import insert
from lungforge.ct.edits.move import move
from lungforge.ct.edits.remove import remove
from lungforge.ct.edits.resize import resize
from lungforge.errors import InputError


def edits_for(has_nodules: bool) -> tuple[EditName, ...]:
    """The edits for slices with, or without, nodules; an edit may still return None for lack of room."""
    return ("none", "move", "resize", "remove") if has_nodules else ("none", "insert")


def edit_map(
    edit: EditName,
    label: NDArray[np.uint8],
    nodules: Sequence[Mapping[str, float]],
    *,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
    diameters_mm: NDArray[np.float64],
) -> EditedMap | None:
    """Edit a map, without changing the arguments.

    Only pixels of nodules and of the lung around them change. Each nodule pixel of the result belongs to the
    nearest nodule of the list, relative to the diameters, as before the edit. A listed nodule without pixels
    (merged into another one when the map was downsampled) is dropped.

    Args:
        edit: One of ``EDITS``.
        label: Classes 0-5, shape [H, W].
        nodules: Dicts of x (column), y (row), diameter_px (in this map's pixels) and diameter_mm.
        spacing_mm: Pixel spacing (row, column).
        generator: Source of all randomness.
        diameters_mm: Diameters of the training nodules, shape [N], that ``insert`` samples from.

    Returns:
        The edited map; None if the edit does not apply to this map or has no room.

    Raises:
        InputError: There is no such edit, or ``insert`` has no diameters to sample from.
    """
    match edit:
        case "none":
            return EditedMap.of("none", label, label.copy(), nodules)
        case "move":
            return move(label, nodules, spacing_mm=spacing_mm, generator=generator)
        case "resize":
            return resize(label, nodules, generator=generator)
        case "insert":
            if nodules:
                return None
            return insert(label, spacing_mm=spacing_mm, generator=generator, diameters_mm=diameters_mm)
        case "remove":
            return remove(label)
    raise InputError(f"edit is {edit!r}; choose one of {', '.join(EDITS)}")

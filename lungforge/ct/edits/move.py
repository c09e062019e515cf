"""Move a nodule within its lung."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.boxes import bounding_box
from lungforge.ct.classes import BODY, NODULE
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import (
    VisibleNodule,
    free_area,
    is_consistent,
    placements,
    surrounding_class,
    visible_nodules,
)


def move(
    label: NDArray[np.uint8],
    nodules: Sequence[Mapping[str, float]],
    *,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
) -> EditedMap | None:
    """Move one nodule by whole pixels within its lung, clear of the wall and of other nodules.

    The new position does not overlap the old one, which becomes lung; it is uniform over all that fit.

    Args:
        label: Classes, shape [H, W].
        nodules: The listed nodules.
        spacing_mm: Pixel spacing (row, column).
        generator: Decides nodule and position.

    Returns:
        The edited map; None if no whole nodule in a lung fits elsewhere.
    """
    shown = visible_nodules(label, nodules)
    for index in generator.permutation(len(shown)).tolist():
        edited = _move(label, shown, index, spacing_mm, generator)
        if edited is not None:
            return edited
    return None


def _move(
    label: NDArray[np.uint8],
    shown: list[VisibleNodule],
    index: int,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
) -> EditedMap | None:
    mask = shown[index].mask
    home = surrounding_class(label, mask)
    if home == BODY or not shown[index].is_whole:
        return None
    without = np.where(mask, np.uint8(home), label)
    room = free_area(without == home, spacing_mm) & ~mask
    rows, columns = bounding_box(mask)
    places = placements(room, mask[rows, columns])
    for row, column in generator.permutation(places).tolist():
        others = list(shown)
        others[index] = moved = _shifted(shown[index], row - rows.start, column - columns.start)
        after = np.where(moved.mask, np.uint8(NODULE), without)
        if _centre_inside(moved) and is_consistent(after, others):
            return EditedMap.of("move", label, after, [each.nodule for each in others])
    return None


def _shifted(shown: VisibleNodule, down: int, right: int) -> VisibleNodule:
    mask: NDArray[np.bool_] = np.zeros_like(shown.mask)
    rows, columns = np.nonzero(shown.mask)
    mask[rows + down, columns + right] = True
    nodule = shown.nodule
    return VisibleNodule({**nodule, "x": nodule["x"] + right, "y": nodule["y"] + down}, mask)


def _centre_inside(shown: VisibleNodule) -> bool:
    # In a slice far from the nodule's centre, the centre may lie beside the nodule's pixels.
    height, width = shown.mask.shape
    return -0.5 <= shown.nodule["x"] <= width - 0.5 and -0.5 <= shown.nodule["y"] <= height - 0.5

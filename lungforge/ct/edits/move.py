"""Moving a nodule to another place in its lung."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import BODY, NODULE
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import (
    Mask,
    ShownNodule,
    bounding_box,
    home_of,
    placements,
    room_in,
    shown_nodules,
    shows,
)


def move(
    label: NDArray[np.uint8],
    nodules: Sequence[Mapping[str, float]],
    *,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
) -> EditedMap | None:
    """Move one nodule by whole pixels within its lung, clear of the wall and of other nodules.

    The new place shares no pixel with the old one, which becomes lung. All places with room are as likely.

    Args:
        label: Classes, shape [H, W].
        nodules: The nodules in the list.
        spacing_mm: Distance between pixel centres (row, column).
        generator: Decides which nodule, and where to.

    Returns:
        None when no nodule that is whole and in a lung has room elsewhere.
    """
    shown = shown_nodules(label, nodules)
    for index in generator.permutation(len(shown)).tolist():
        edited = _move(label, shown, index, spacing_mm, generator)
        if edited is not None:
            return edited
    return None


def _move(
    label: NDArray[np.uint8],
    shown: list[ShownNodule],
    index: int,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
) -> EditedMap | None:
    mask = shown[index].mask
    home = home_of(label, mask)
    if home == BODY or not shown[index].is_whole:
        return None
    without = np.where(mask, np.uint8(home), label)
    room = room_in(without == home, spacing_mm) & ~mask
    rows, columns = bounding_box(mask)
    places = placements(room, mask[rows, columns])
    for row, column in generator.permutation(places).tolist():
        others = list(shown)
        others[index] = moved = _shifted(shown[index], row - rows.start, column - columns.start)
        after = np.where(moved.mask, np.uint8(NODULE), without)
        if _centre_inside(moved) and shows(after, others):
            return EditedMap.of("move", label, after, [each.nodule for each in others])
    return None


def _shifted(shown: ShownNodule, down: int, right: int) -> ShownNodule:
    mask: Mask = np.zeros_like(shown.mask)
    rows, columns = np.nonzero(shown.mask)
    mask[rows + down, columns + right] = True
    nodule = shown.nodule
    return ShownNodule({**nodule, "x": nodule["x"] + right, "y": nodule["y"] + down}, mask)


def _centre_inside(shown: ShownNodule) -> bool:
    # Of a slice far from the nodule's middle, the centre may lie beside the nodule's pixels.
    height, width = shown.mask.shape
    return -0.5 <= shown.nodule["x"] <= width - 0.5 and -0.5 <= shown.nodule["y"] <= height - 0.5

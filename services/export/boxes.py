"""The nodules of a slice that are annotated: their boxes and pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.nodules import Box, nodule_boxes, nodule_masks
from services.export.rows import Item


@dataclass(frozen=True)
class NoduleBox:
    """A nodule of a slice.

    Attributes:
        box: Left, top, width and height in px.
        mask: Its pixels in the map, shape [H, W]; empty where the map has none, and the box is its circle's.
        diameter_mm: Of the whole nodule.
    """

    box: Box
    mask: NDArray[np.bool_]
    diameter_mm: float


def annotated_nodules(item: Item, min_box_px: int) -> tuple[list[NoduleBox], int]:
    """The nodules whose boxes are large enough, and the number of the others.

    Args:
        item: A slice or sample.
        min_box_px: The least length of a box's shorter side, in px.
    """
    label, nodules = item.row["label"], item.row["nodules"]
    found = [
        NoduleBox(box, mask, float(nodule["diameter_mm"]))
        for nodule, box, mask in zip(
            nodules, nodule_boxes(label, nodules), nodule_masks(label, nodules), strict=True
        )
    ]
    kept = [one for one in found if min(one.box[2:]) >= min_box_px]
    return kept, len(found) - len(kept)

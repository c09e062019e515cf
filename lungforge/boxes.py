"""The boxes of nodules, from their map: what detectors learn from."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import NODULE
from lungforge.ct.nodules import nearest_nodules

Box = tuple[float, float, float, float]
"""Left, top, width and height in px; the left edge of the first column is 0."""


def nodule_boxes(label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]]) -> list[Box]:
    """The box of each nodule of a map.

    Nodule pixels belong to the nodule whose centre is nearest, measured in that nodule's diameters. A
    nodule that has no pixel of its own in the map is given the box of its circle.

    Args:
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the row's column ``nodules``: x, y, diameter_px.

    Returns:
        A box for each nodule, in their order.
    """
    if not nodules:
        return []
    rows, columns = np.nonzero(label == NODULE)
    owner, _ = nearest_nodules(rows, columns, nodules)
    boxes = []
    for index, nodule in enumerate(nodules):
        own_rows, own_columns = rows[owner == index], columns[owner == index]
        if len(own_rows):
            left, top = float(own_columns.min()), float(own_rows.min())
            right, bottom = own_columns.max() + 1.0, own_rows.max() + 1.0
        else:
            height, width = label.shape
            radius = nodule["diameter_px"] / 2
            left, right = np.clip([nodule["x"] + 0.5 - radius, nodule["x"] + 0.5 + radius], 0, width)
            top, bottom = np.clip([nodule["y"] + 0.5 - radius, nodule["y"] + 0.5 + radius], 0, height)
        boxes.append((float(left), float(top), float(right - left), float(bottom - top)))
    return boxes

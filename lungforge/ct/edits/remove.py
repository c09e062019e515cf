"""Remove all nodules of a slice."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import NODULE
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import EIGHT_NEIGHBOURS, surrounding_class


def remove(label: NDArray[np.uint8]) -> EditedMap | None:
    """Replace every nodule by the lung around it, or by body if there is none.

    Touching nodules count as one.

    Args:
        label: Classes, shape [H, W].

    Returns:
        The edited map; None if the map has no nodule.
    """
    components, count = ndimage.label(label == NODULE, EIGHT_NEIGHBOURS)
    if not count:
        return None
    after = label.copy()
    for index in range(1, count + 1):
        component = components == index
        after[component] = surrounding_class(label, component)
    return EditedMap.of("remove", label, after, [])

"""The counterpart of a slice without its nodules."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import NODULE
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import EIGHT_NEIGHBOURS, home_of


def remove(label: NDArray[np.uint8]) -> EditedMap | None:
    """Turn every nodule into the lung around it, or into body where there is no lung around it.

    Nodules that touch one another are surrounded together.

    Args:
        label: Classes, shape [H, W].

    Returns:
        None when the map has no nodule.
    """
    pieces, count = ndimage.label(label == NODULE, EIGHT_NEIGHBOURS)
    if not count:
        return None
    after = label.copy()
    for number in range(1, count + 1):
        piece = pieces == number
        after[piece] = home_of(label, piece)
    return EditedMap.of("remove", label, after, [])

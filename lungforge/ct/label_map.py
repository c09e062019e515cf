"""Semantic maps: one of six classes per pixel."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import BACKGROUND, BODY, LEFT_LUNG, NODULE, RIGHT_LUNG, TRACHEA

MIRRORED: Final = (BACKGROUND, BODY, RIGHT_LUNG, LEFT_LUNG, TRACHEA, NODULE)
"""Class of each class after mirroring: left and right lung are swapped."""


def label_map(anatomy: NDArray[np.uint8], nodule_masks: Iterable[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Add nodules to the anatomy of a slice; the nodule class overrides all others.

    Args:
        anatomy: Classes 0-4, shape [H, W].
        nodule_masks: Pixels of each nodule, each of shape [H, W]; they may overlap.

    Returns:
        A new map of classes 0-5, shape [H, W].
    """
    label = anatomy.copy()
    for mask in nodule_masks:
        label[mask] = NODULE
    return label


def flip_label(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirror maps horizontally: reverse the columns and swap left and right lung.

    Args:
        label: Classes 0-5, shape [..., H, W].

    Returns:
        The same shape, contiguous. To match, reverse the columns of the image and map points by
        x -> W - 1 - x.
    """
    return np.array(MIRRORED, np.uint8)[label[..., ::-1]]

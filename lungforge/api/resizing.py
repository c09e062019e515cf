"""Resizing a slice of a dataset with its map and nodules."""

import dataclasses

import numpy as np

from lungforge.ct.classes import NODULE
from lungforge.ct.edits.geometry import visible_nodules
from lungforge.ct.edits.remove import remove
from lungforge.ct.nodules import SliceNodule
from lungforge.ct.resize import PixelMap, resize_slice
from lungforge.datasets.slices import SliceRow


def resized(row: SliceRow, size: int) -> SliceRow:
    """A slice in ``size`` x ``size`` px, as preprocessing resizes: no nodule of the map disappears.

    Args:
        row: The slice.
        size: Rows and columns of the result, in px; the field of view stays.
    """
    height, width = row.image.shape
    pixel_map = PixelMap.fit((height, width), row.spacing_mm, size=size)
    if pixel_map.is_identity:
        return row
    without = remove(row.label)
    shown = visible_nodules(row.label, row.nodules)
    nodules = [
        SliceNodule(
            each.nodule["x"],
            each.nodule["y"],
            each.nodule["diameter_px"],
            each.nodule["diameter_mm"],
            each.mask,
        )
        for each in shown
    ]
    # Pixels of nodules whose centre is outside the image: in the map, and not in the list.
    unlisted = (row.label == NODULE) & ~np.any([each.mask for each in shown], axis=0)
    if unlisted.any():
        nodules.append(SliceNodule(0.0, 0.0, 0.0, 0.0, unlisted))
    anatomy = row.label if without is None else without.label
    image, label, kept = resize_slice(row.image, anatomy, nodules, pixel_map)
    return dataclasses.replace(
        row,
        spacing_mm=pixel_map.spacing_mm,
        image=image,
        label=label,
        nodules=tuple(nodule.row() for nodule in kept if nodule.diameter_px > 0),
    )

"""Body, lungs and trachea of a CT: from the LUNA16 masks where there are any, else derived from the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lungforge.ct.classes import BODY, LUNA16_MASK_VALUES
from lungforge.ct.geometry import Geometry
from lungforge.ct.segmentation.body import body_mask
from lungforge.ct.segmentation.lungs import find_lungs
from lungforge.errors import ContentError

__all__ = ["anatomy_from_luna", "body_mask", "derive_anatomy"]


def anatomy_from_luna(mask: ArrayLike, hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Make an anatomy map from a LUNA16 lung mask.

    Pieces of the mask that lie wholly outside the body are dropped: masks made by threshold have air
    pockets of the mattress among their airways.

    Args:
        mask: Values of seg-lungs-LUNA16 (``LUNA16_MASK_VALUES``), shape [..., H, W].
        hu: Hounsfield units of the same voxels.

    Returns:
        Classes background, body, left lung, right lung, trachea; same shape.

    Raises:
        ContentError: The shapes differ.
    """
    mask = np.asarray(mask)
    if mask.shape != hu.shape:
        raise ContentError(
            f"the lung mask has the shape {mask.shape} and its volume {hu.shape}; they must agree"
        )
    body = body_mask(hu)
    anatomy = np.where(body, np.uint8(BODY), np.uint8(0))
    for class_value, value in LUNA16_MASK_VALUES.items():
        anatomy[_touching(mask == value, body)] = class_value
    return anatomy


def _touching(wanted: NDArray[np.bool_], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of a mask, slice by slice, that have a pixel in the body; bool [..., H, W]."""
    if not (wanted & ~body).any():
        return wanted
    in_slices_only = np.zeros((3,) * wanted.ndim, bool)
    in_slices_only[(1,) * (wanted.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    pieces, count = ndimage.label(wanted, in_slices_only)
    inside = np.zeros(count + 1, bool)
    inside[pieces[body]] = True
    return wanted & inside[pieces]


def derive_anatomy(
    hu: NDArray[np.int16], geometry: Geometry, indices: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Find body, lungs and trachea in the image itself.

    Args:
        hu: Hounsfield units, shape [Z, H, W]; padding may be anything below -1000.
        geometry: Where the voxels lie: its spacing sets the sizes, its direction tells left from right and
            top from bottom.
        indices: The slices that are wanted, which saves time; all when none are named. Lungs are looked for
            in the whole volume all the same.

    Returns:
        Classes background, body, left lung, right lung, trachea; shape [Z or len(indices), H, W].
    """
    lungs = find_lungs(hu, geometry, indices)
    body = body_mask(hu if indices is None else hu[list(indices)])
    return np.where(lungs > 0, lungs, np.where(body, np.uint8(BODY), np.uint8(0)))

"""Anatomy maps (body, lungs, trachea): from LUNA16 masks, or segmented from the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lungforge.ct.classes import BODY, LUNA16_MASK_VALUES
from lungforge.ct.geometry import Geometry
from lungforge.ct.segmentation.body import body_mask
from lungforge.ct.segmentation.lungs import segment_lungs
from lungforge.errors import ContentError

__all__ = ["anatomy_from_luna", "body_mask", "derive_anatomy"]


def anatomy_from_luna(mask: ArrayLike, hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Make an anatomy map from a LUNA16 lung mask.

    Components of the mask entirely outside the body are dropped: threshold-based masks include air pockets of
    the mattress among the airways.

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
    """The components of a mask, slice by slice, that overlap the body; bool [..., H, W]."""
    if not (wanted & ~body).any():
        return wanted
    in_slices_only = np.zeros((3,) * wanted.ndim, bool)
    in_slices_only[(1,) * (wanted.ndim - 2)] = ndimage.generate_binary_structure(2, 1)
    components, count = ndimage.label(wanted, in_slices_only)
    inside = np.zeros(count + 1, bool)
    inside[components[body]] = True
    return wanted & inside[components]


def derive_anatomy(
    hu: NDArray[np.int16], geometry: Geometry, indices: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Segment body, lungs and trachea from the image.

    Args:
        hu: Hounsfield units, shape [Z, H, W]; padding may have any value below -1000.
        geometry: Geometry of the volume: the spacing sets the sizes, the direction tells left from right and
            top from bottom.
        indices: Slices to return, all by default; fewer save time. Lungs are always segmented in the whole
            volume.

    Returns:
        Classes background, body, left lung, right lung, trachea; shape [Z or len(indices), H, W].
    """
    lungs = segment_lungs(hu, geometry, indices)
    body = body_mask(hu if indices is None else hu[list(indices)])
    return np.where(lungs > 0, lungs, np.where(body, np.uint8(BODY), np.uint8(0)))

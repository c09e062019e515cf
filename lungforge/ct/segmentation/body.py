"""Segmentation of the body, without the table."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BODY_HU = -303
"""Threshold of the body (that of the published study)."""

PADDING_HU = -1500
"""Values below this are padding outside the field of view (LUNA16: -2000, -2048 or -3024)."""

_NECK = 1 / 57
"""Objects connected to the body by a neck narrower than this share of the width are removed (9 of 512 px)."""

_LUNG_HU = -930
_LUNG_DEPTH = 0.12
_LUNG_BETWEEN = 0.4
"""Criteria for a lung cut off by the frame: its mean HU is above that of outside air, its area per touched
frame pixel exceeds this share of the image width, and this share of it has body in front and behind."""


def body_mask(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Segment the body in each slice: the largest component above -303 HU, with holes filled.

    Objects connected by a thin neck (table, clothes, a touching hand) are removed. A lung cut off by the
    frame of the image or by the circular field of view is filled like a hole.

    Args:
        hu: Hounsfield units, shape [..., H, W].

    Returns:
        Shape [..., H, W].
    """
    planes = hu.reshape(-1, *hu.shape[-2:])
    body = np.zeros(planes.shape, bool)
    for index, plane in enumerate(planes):
        body[index] = _body_of_slice(plane)
    return body.reshape(hu.shape)


def _body_of_slice(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    padding = hu < PADDING_HU
    frame = np.ones(hu.shape, bool)
    frame[1:-1, 1:-1] = False
    if padding.any():
        frame |= ndimage.maximum_filter(padding.view(np.uint8), 3).view(bool)
    air, count = ndimage.label((hu <= BODY_HU) & ~padding)
    touching = np.bincount(air[frame], minlength=count + 1)
    outside = touching > 0
    outside[0] = False
    area = np.bincount(air.ravel(), minlength=count + 1)
    for component in np.flatnonzero(outside & (area > _LUNG_DEPTH * hu.shape[1] * touching)):
        outside[component] = not _is_lung(hu, air == component)
    filled = ~outside[air] & ~padding
    core = _erode(filled)
    components, count = ndimage.label(core)
    if not count:
        return core
    largest = components == 1 + np.bincount(components.ravel())[1:].argmax()
    return filled & _dilate(largest)


def _is_lung(hu: NDArray[np.int16], air: NDArray[np.bool_]) -> bool:
    """Whether a component of air at the frame is lung, not outside air or the foam of the table."""
    if hu[air].mean() <= _LUNG_HU:
        return False
    thick = _dilate(_erode(hu > BODY_HU))
    between = np.logical_or.accumulate(thick) & np.logical_or.accumulate(thick[::-1])[::-1]
    return bool(between[air].mean() > _LUNG_BETWEEN)


def _erode(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Erode a mask, which removes thin necks and sheets."""
    # mode="nearest": the body may extend beyond the image, so the image edge must not erode it.
    return ndimage.minimum_filter(mask.view(np.uint8), _neck(mask), mode="nearest").view(bool)


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dilate a mask, the counterpart of ``_erode``."""
    return ndimage.maximum_filter(mask.view(np.uint8), _neck(mask)).view(bool)


def _neck(mask: NDArray[np.bool_]) -> int:
    return 2 * round(mask.shape[1] * _NECK / 2) + 1

"""The body in a slice, without the table."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BODY_HU = -303
"""What is denser belongs to the body (the published study's threshold)."""

PADDING_HU = -1500
"""What is less dense than this was never measured (LUNA16: -2000, -2048 or -3024 outside the circle)."""

_NECK = 1 / 57
"""What hangs on the body by less than this part of the picture's width is no part of it (9 of 512 pixels)."""

_LUNG_HU = -930
_LUNG_DEPTH = 0.12
_LUNG_BETWEEN = 0.4
"""A lung that the frame cuts into: denser than the air outside, with more area than this part of the width of
the picture for each pixel of the frame that it touches, and this part of it with body before and behind."""


def body_mask(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """The body in each slice: what is denser than -303 HU, its largest piece, with its holes filled.

    What hangs on by a thin neck (table, clothes, a hand that touches) does not belong to it. A lung that the
    frame of the picture or the circle of the scan cuts off is a hole, too.

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
    for piece in np.flatnonzero(outside & (area > _LUNG_DEPTH * hu.shape[1] * touching)):
        outside[piece] = not _is_lung(hu, air == piece)
    filled = ~outside[air] & ~padding
    core = _thick(filled)
    pieces, count = ndimage.label(core)
    if not count:
        return core
    largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
    return filled & _grow(largest)


def _is_lung(hu: NDArray[np.int16], air: NDArray[np.bool_]) -> bool:
    """Whether a piece of air that the frame cuts into is lung, not outer air or the foam of the table."""
    if hu[air].mean() <= _LUNG_HU:
        return False
    thick = _grow(_thick(hu > BODY_HU))
    between = np.logical_or.accumulate(thick) & np.logical_or.accumulate(thick[::-1])[::-1]
    return bool(between[air].mean() > _LUNG_BETWEEN)


def _thick(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What remains of a mask when all thin necks and sheets have been worn away."""
    # The edge of the picture is no edge of the body, which may reach past it.
    return ndimage.minimum_filter(mask.view(np.uint8), _neck(mask), mode="nearest").view(bool)


def _grow(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give back what was worn away."""
    return ndimage.maximum_filter(mask.view(np.uint8), _neck(mask)).view(bool)


def _neck(mask: NDArray[np.bool_]) -> int:
    return 2 * round(mask.shape[1] * _NECK / 2) + 1

"""Where an image is: how large its pixels are, and where in the slice it was cut from.

A network that takes these knows the scale of what it draws, and on which side and how high in the slice a
patch lies (after Wang et al., "Patch Diffusion", arXiv 2304.12526, who give it the coordinates of pixels).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Values of a place: the logarithm of the size of a pixel in mm, row and column of the image's centre, from
#: -1 to 1 over the slice, and 1. All are 0 where nothing is known.
VALUES: Final = 4


def place_of(
    spacing_mm: Sequence[float],
    slice_px: tuple[int, int],
    image_px: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
    *,
    mirrored: bool = False,
) -> NDArray[np.float32]:
    """The place of an image, float32 ``[VALUES]``.

    Args:
        spacing_mm: Of its pixels: row, column.
        slice_px: Height and width of the slice.
        image_px: Height and width of the image, a part of it.
        corner: Row and column of its first pixel in the slice.
        mirrored: Whether the image is mirrored left to right, and so the slice that it is of.
    """
    row, column = (
        (2 * first + image) / whole - 1
        for first, image, whole in zip(corner, image_px, slice_px, strict=True)
    )
    size = math.log(spacing_mm[0] * spacing_mm[1]) / 2
    return np.array([size, row, -column if mirrored else column, 1.0], np.float32)

"""What is sampled anew around an edit when a slice is inpainted."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

INPAINTED_MM: Final = 5.0
INPAINTED_PX: Final = 2
"""How far around an edit a slice is sampled anew, in mm and at least in px: a nodule's edge is blurred by the
scanner, and its vessels lead to it."""


def surroundings(changed: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """What is sampled anew around an edit, [H, W]: all that is near a pixel whose class has changed.

    Args:
        changed: [H, W], not all False.
        spacing_mm: Distance between pixel centres (row, column).
    """
    in_mm = ndimage.distance_transform_edt(~changed, sampling=spacing_mm)
    in_px = ndimage.distance_transform_edt(~changed)
    return (in_mm <= INPAINTED_MM) | (in_px <= INPAINTED_PX)

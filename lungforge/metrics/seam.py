"""Is the border of a part that was inpainted into a real slice visible?"""

import math

import numpy as np
from numpy.typing import NDArray


def seam_ratio(image_hu: NDArray[np.int16], mask: NDArray[np.bool_]) -> float:
    """How much larger the steps in HU are across a mask's border than right beside it.

    Wherever four pixels in a row or column lie two on either side of the border, the step across it is
    compared with the two that continue it on the same line, one inside and one outside. So tissue and
    direction are the same for both: a slope of the image has the ratio 1 whatever the mask's shape, and so
    has noise, while a difference in brightness between the sides raises it. Where the mask or what it
    leaves is less than 2 px wide, there is nothing to compare with, and the border is left out.

    On real slices, discs of 4 to 16 px radius in which nothing was inpainted have a mean of 1.0, nine in ten
    of them 0.6 to 1.5; filled from another slice, a mean of 6 to 8. So judge by the mean of many images.

    Args:
        image_hu: Slice ``[H, W]`` in HU.
        mask: bool ``[H, W]``, True where the slice was inpainted.

    Returns:
        Mean absolute step across the border over the mean absolute step beside it, without a unit: 1 is an
        invisible seam. 1 also where both are 0, infinity where only the latter is, NaN without a border.
    """
    assert mask.dtype == bool, mask.dtype
    assert mask.shape == image_hu.shape, (mask.shape, image_hu.shape)
    across, beside = [], []
    for image, inside in ((image_hu, mask), (image_hu.T, mask.T)):
        steps = np.abs(np.diff(image.astype(np.float64), axis=1))
        changes = np.diff(inside, axis=1)
        border = changes[:, 1:-1] & ~changes[:, :-2] & ~changes[:, 2:]
        across.append(steps[:, 1:-1][border])
        beside.append((steps[:, :-2][border] + steps[:, 2:][border]) / 2)
    step, reference = np.concatenate(across), np.concatenate(beside)
    if step.size == 0:
        return math.nan
    if reference.sum() == 0:
        return 1.0 if step.sum() == 0 else math.inf
    return float(step.sum() / reference.sum())

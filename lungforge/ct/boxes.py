"""Bounding boxes of masks."""

import numpy as np
from numpy.typing import NDArray


def bounding_box(mask: NDArray[np.bool_], margins: tuple[int, int] = (0, 0)) -> tuple[slice, slice]:
    """Bounding box (rows, columns) of a mask, extended on each side within the image.

    Args:
        mask: Shape [H, W], not empty.
        margins: Rows above and below, columns left and right. A box may end beyond the image, as slices may.
    """
    places = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    rows, columns = (
        slice(max(int(each[0]) - margin, 0), int(each[-1]) + margin + 1)
        for each, margin in zip(places, margins, strict=True)
    )
    return rows, columns

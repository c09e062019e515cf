"""Bilinear interpolation of several images at the same places."""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray


def interpolated(images: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bilinear interpolation of several images at the same places, 0 outside of them.

    What ``scipy.ndimage.map_coordinates`` of order 1 gives; one matrix of weights serves all images.

    Args:
        images: ``[H, W, L]`` float32, H and W at least 2.
        places: Rows and columns, ``[2, P]``.

    Returns:
        ``[P, L]`` float32.
    """
    height, width, count = images.shape
    last = np.array([[height - 1], [width - 1]])
    inside = ((places >= 0) & (places <= last)).all(axis=0)
    # A place on the last row or column is at the far end of its cell.
    low = np.clip(places.astype(np.int32), 0, last.astype(np.int32) - 1)
    down, right = places - low
    first = low[0] * np.int32(width) + low[1]
    weights = np.empty((len(first), 4), dtype=np.float32)
    weights[:, 0], weights[:, 1] = (1 - down) * (1 - right), (1 - down) * right
    weights[:, 2], weights[:, 3] = down * (1 - right), down * right
    weights[~inside] = 0
    indices = first[:, None] + np.array([0, 1, width, width + 1], dtype=np.int32)
    starts = np.arange(0, weights.size + 1, 4, dtype=np.int32)
    entries = (weights.ravel(), indices.ravel(), starts)
    matrix = scipy.sparse.csr_array(entries, shape=(len(first), height * width))
    result: NDArray[np.float32] = matrix @ images.reshape(-1, count)
    return result

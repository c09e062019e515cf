"""Resampling of test scans: slices of one scan stay together, because they are alike.

What is resampled are weights, so that a measure is computed for all draws at a time. The intervals that are
made of them, over scans and trained networks, are those of ``hierarchical.py``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def scan_weights(scans: Sequence[str], draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each example counts in each draw of the scans, ``[draws + 1, N]``; the first row is all ones.

    Args:
        scans: The scan of each example.
        draws: How many.
        generator: Draws.
    """
    names, members = np.unique(np.asarray(scans), return_inverse=True)
    counts = generator.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(members))), counts[:, members].astype(np.float64)])

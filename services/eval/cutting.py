"""Real slices cut into patches, where the synthetic ones are patches: like is compared with like."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lungforge.patches import patch_corner
from lungforge.randomness import numpy_generator
from lungforge.rows import rows_of


@dataclass(frozen=True)
class Cut:
    """How real slices are cut.

    Attributes:
        size: Side of a patch, in px.
        seed: Of the job; with the slice it decides where.
    """

    size: int
    seed: int

    def corners(self, table: pa.Table) -> np.ndarray:
        """Where the patch of each of some slices is: row and column of its first pixel, int64 ``[N, 2]``."""
        corners = [
            patch_corner(row, self.size, numpy_generator(self.seed, "patch", row.series_uid, row.slice_index))
            for row in rows_of(table)
        ]
        return np.asarray(corners, dtype=np.int64).reshape(-1, 2)


def cut_out(pictures: np.ndarray, corners: np.ndarray, cut: Cut | None) -> np.ndarray:
    """The patch of each picture ``[N, H, W]``: ``[N, P, P]``; the pictures themselves without a cut."""
    if cut is None:
        return pictures
    patches = [
        picture[top : top + cut.size, left : left + cut.size]
        for picture, (top, left) in zip(pictures, corners.tolist(), strict=True)
    ]
    return np.stack(patches) if patches else np.zeros((0, cut.size, cut.size), pictures.dtype)

"""Does a synthetic slice show what its map says? Body and lungs, segmented in the image, against the map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.geometry import Geometry
from lungforge.ct.segmentation.anatomy import derive_anatomy

#: The structures that are compared: their names, and the classes of the map that they consist of.
STRUCTURES: Final[dict[str, tuple[int, ...]]] = {
    "body": (
        classes.BODY,
        classes.LEFT_LUNG,
        classes.RIGHT_LUNG,
        classes.TRACHEA,
        classes.NODULE,
    ),
    "lungs": (classes.LEFT_LUNG, classes.RIGHT_LUNG),
}


@dataclass(frozen=True)
class Resegmentation:
    """The segmentation of a slice, and how well it agrees with the map.

    Attributes:
        anatomy: Classes background, body, left and right lung, trachea, uint8 ``[H, W]``.
        dice: Overlap by structure, 0 to 1; without structures that neither map nor segmentation holds.
    """

    anatomy: NDArray[np.uint8]
    dice: dict[str, float]


def segment_and_compare(
    hu: NDArray[np.int16], label: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> Resegmentation:
    """Segment a whole slice as preprocessing does, and compare with the map.

    Args:
        hu: ``[H, W]`` int16.
        label: The map, ``[H, W]`` uint8. The pixels of its nodules do not count for the lungs: the
            segmentation may take a nodule for lung or for body.
        spacing_mm: Of the pixels, [row, column].
    """
    height, width = hu.shape
    row_mm, column_mm = spacing_mm
    # A single slice: its thickness has no influence on the segmentation.
    geometry = Geometry(size=(width, height, 1), spacing_mm=(column_mm, row_mm, 1.0))
    (anatomy,) = derive_anatomy(hu[None], geometry)
    overlaps = {}
    for name, members in STRUCTURES.items():
        counts = np.ones_like(label, dtype=bool) if classes.NODULE in members else label != classes.NODULE
        overlap = dice(np.isin(anatomy, members) & counts, np.isin(label, members) & counts)
        if overlap is not None:
            overlaps[name] = overlap
    return Resegmentation(anatomy, overlaps)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Twice the common pixels over the sum of both masks' pixels; None where both are empty.

    Dice, "Measures of the Amount of Ecologic Association Between Species", 1945.
    """
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else None

"""Does a synthetic slice hold what its map says? Body and lungs found again in the image, beside the map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lungforge.ct import classes
from lungforge.ct.geometry import Geometry
from lungforge.ct.segmentation.anatomy import derive_anatomy

#: What is looked for in the image: its name, and the classes of the map that it is made of.
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
    """What the segmentation finds in a slice, and how well it agrees with the map.

    Attributes:
        anatomy: Classes background, body, left and right lung, trachea, uint8 ``[H, W]``.
        dice: Overlap by name of the structure, 0 to 1; without those that neither map nor image holds.
    """

    anatomy: np.ndarray
    dice: dict[str, float]


def segment_and_compare(hu: np.ndarray, label: np.ndarray, spacing_mm: Sequence[float]) -> Resegmentation:
    """Segment a whole slice by the recipe that preprocessing uses, and compare with the map.

    Args:
        hu: ``[H, W]`` int16.
        label: The map, ``[H, W]`` uint8. The pixels of its nodules do not count for the lungs: a nodule may
            be found as lung or as body.
        spacing_mm: Of the pixels, [row, column].
    """
    height, width = hu.shape
    row_mm, column_mm = spacing_mm
    # A single slice: how thick it is has no influence on what is found in it.
    geometry = Geometry(size=(width, height, 1), spacing_mm=(column_mm, row_mm, 1.0))
    (anatomy,) = derive_anatomy(hu[None], geometry)
    found = {}
    for name, members in STRUCTURES.items():
        counts = np.ones_like(label, dtype=bool) if classes.NODULE in members else label != classes.NODULE
        overlap = dice(np.isin(anatomy, members) & counts, np.isin(label, members) & counts)
        if overlap is not None:
            found[name] = overlap
    return Resegmentation(anatomy, found)


def dice(first: np.ndarray, second: np.ndarray) -> float | None:
    """Twice the common pixels over the sum of both masks' pixels; None where both are empty.

    Dice, "Measures of the Amount of Ecologic Association Between Species", 1945.
    """
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else None

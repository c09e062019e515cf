"""The six classes of a label map, their names and their colours."""

from typing import Final

BACKGROUND: Final = 0
BODY: Final = 1
LEFT_LUNG: Final = 2
RIGHT_LUNG: Final = 3
TRACHEA: Final = 4
NODULE: Final = 5

LUNA16_MASK_VALUES: Final = {LEFT_LUNG: 3, RIGHT_LUNG: 4, TRACHEA: 5}
"""Class to the value that the masks in seg-lungs-LUNA16 give it; other values of them mean nothing here."""

COUNT: Final = 6
"""Number of classes."""

NAMES: Final[tuple[str, ...]] = (
    "background",
    "body",
    "left lung",
    "right lung",
    "trachea",
    "nodule",
)
"""Name of each class, in the order of its value. Left and right are the patient's."""

COLOURS: Final[tuple[tuple[int, int, int], ...]] = (
    (0, 0, 0),
    (90, 90, 95),
    (120, 200, 245),
    (20, 105, 190),
    (245, 230, 80),
    (240, 90, 30),
)
"""Colour of each class as red, green, blue (0-255), in the order of its value.

Chosen to be distinguishable under the common colour blindnesses: the closest pair is CIE76 29 apart.
"""

"""What an edit gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

EditName = Literal["none", "move", "resize", "insert", "remove"]

EDITS: tuple[EditName, ...] = get_args(EditName)
"""Names of the edits."""


@dataclass(frozen=True)
class EditedMap:
    """A map with what it shows, and where it differs from the one that it was made from."""

    label: NDArray[np.uint8]
    """Classes 0-5, shape [H, W]; an array of its own."""
    nodules: tuple[dict[str, float], ...]
    """Dicts of x (column), y (row), diameter_px (in this map's pixels) and diameter_mm."""
    edit: EditName
    """What was done."""
    changed: NDArray[np.bool_]
    """Pixels whose class is another than before, shape [H, W]."""

    @classmethod
    def of(
        cls,
        edit: EditName,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        nodules: Sequence[Mapping[str, float]],
    ) -> "EditedMap":
        """Compare a map, shape [H, W], with the one that it was made from."""
        return cls(after, tuple(dict(nodule) for nodule in nodules), edit, before != after)

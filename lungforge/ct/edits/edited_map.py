"""The result of an edit."""

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
    """An edited map, its nodules, and its difference from the original."""

    label: NDArray[np.uint8]
    """Classes 0-5, shape [H, W]; a new array."""
    nodules: tuple[dict[str, float], ...]
    """Dicts of x (column), y (row), diameter_px (in this map's pixels) and diameter_mm."""
    edit: EditName
    """The edit that was applied."""
    changed: NDArray[np.bool_]
    """Pixels whose class has changed, shape [H, W]."""

    @classmethod
    def of(
        cls,
        edit: EditName,
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        nodules: Sequence[Mapping[str, float]],
    ) -> "EditedMap":
        """Build the result from the maps before and after the edit, shape [H, W]."""
        return cls(after, tuple(dict(nodule) for nodule in nodules), edit, before != after)

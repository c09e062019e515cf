"""Which way up a slice is stored, by its map, and the same slice as a radiologist looks at it.

A dataset keeps the pixel grid of the files. Some scans of LUNA16 have the direction (-1, -1, 1): rows and
columns run the other way, so their slices are stored turned by 180 degrees. The map tells: its left and right
lung are the patient's, and an upright slice shows the patient's right on the left and the front on top, as
seen from the feet. A grid that is mirrored along one axis alone looks the same to this test; LUNA16 has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import LEFT_LUNG, RIGHT_LUNG

Pixels = TypeVar("Pixels", bound=np.generic)


@dataclass(frozen=True)
class UprightSlice:
    """A slice, its map and its nodules, upright.

    Attributes:
        image: HU, shape [H, W].
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the column ``nodules``, x and y in pixels of this image.
        turned: Whether the dataset stores it turned by 180 degrees.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    nodules: list[dict[str, float]]
    turned: bool


def has_sides(label: NDArray[np.uint8]) -> bool:
    """Whether a map shows both lungs, so that left and right are known."""
    return bool((label == LEFT_LUNG).any() and (label == RIGHT_LUNG).any())


def is_turned(label: NDArray[np.uint8]) -> bool:
    """Whether a slice is stored turned by 180 degrees: the left lung lies left of the right one.

    Args:
        label: Classes 0-5, shape [H, W]. One that does not show both lungs counts as upright.
    """
    return has_sides(label) and _column(label, LEFT_LUNG) < _column(label, RIGHT_LUNG)


def turn(pixels: NDArray[Pixels]) -> NDArray[Pixels]:
    """Turn an image [H, W, ...] by 180 degrees; a view."""
    return pixels[::-1, ::-1]


def shown(pixels: NDArray[Pixels], label: NDArray[np.uint8]) -> NDArray[Pixels]:
    """An image of a slice, or its map, upright; a view.

    Args:
        pixels: Shape [H, W, ...].
        label: The map of the same slice, as it is stored, [H, W].
    """
    return turn(pixels) if is_turned(label) else pixels


def upright(
    image: NDArray[np.int16], label: NDArray[np.uint8], nodules: Sequence[Mapping[str, Any]]
) -> UprightSlice:
    """Turn a slice that is stored turned; another one stays as it is.

    Args:
        image: HU, shape [H, W].
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the column ``nodules``.
    """
    if not is_turned(label):
        return UprightSlice(image, label, [dict(nodule) for nodule in nodules], turned=False)
    height, width = label.shape
    return UprightSlice(
        np.ascontiguousarray(turn(image)),
        np.ascontiguousarray(turn(label)),
        [{**nodule, "x": width - 1 - nodule["x"], "y": height - 1 - nodule["y"]} for nodule in nodules],
        turned=True,
    )


def _column(label: NDArray[np.uint8], lung: int) -> float:
    return float(np.nonzero(label == lung)[1].mean())

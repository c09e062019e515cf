"""Classic augmentation of a picture and its boxes: what synthetic slices have to be better than."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.nodules import Box
from lungforge.ct.window import AIR_HU

#: The furthest that a picture is moved, as a share of its side.
_SHIFT = 0.1
#: Spread of the factor on the contrast, and of the brightness that is added, in HU.
_CONTRAST, _BRIGHTNESS_HU = 0.1, 40.0


def augment(
    picture: NDArray[np.int16], boxes: Sequence[Box], generator: np.random.Generator
) -> tuple[NDArray[np.int16], list[Box]]:
    """Mirror, turn by quarters, move, and change contrast and brightness, at random.

    Args:
        picture: HU, int16 ``[H, W]``, square.
        boxes: Of its nodules.
        generator: Decides.

    Returns:
        The picture, and the boxes of the nodules whose centre is still in it, cut at its edges.
    """
    side = picture.shape[0]
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    edges = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    if generator.random() < 0.5:
        picture, edges = (
            picture[:, ::-1],
            np.stack([side - edges[:, 2], edges[:, 1], side - edges[:, 0], edges[:, 3]], 1),
        )
    for _ in range(generator.integers(4)):
        # A quarter to the left: what was right is now above.
        picture = np.rot90(picture)
        edges = np.stack([edges[:, 1], side - edges[:, 2], edges[:, 3], side - edges[:, 0]], axis=1)
    farthest = int(_SHIFT * side)
    down, right = generator.integers(-farthest, farthest + 1, size=2).tolist()
    moved = np.full_like(picture, AIR_HU)
    moved[_to(down, side), _to(right, side)] = picture[_to(-down, side), _to(-right, side)]
    edges = edges + np.array([right, down, right, down])
    centres = (edges[:, :2] + edges[:, 2:]) / 2
    edges = np.clip(edges[((centres >= 0) & (centres < side)).all(axis=1)], 0, side)
    contrast = 1.0 + _CONTRAST * generator.standard_normal()
    brightness = _BRIGHTNESS_HU * generator.standard_normal()
    hu = np.rint((moved + 300.0) * contrast - 300.0 + brightness)
    changed = np.clip(hu, -1024, 3071).astype(np.int16)
    return changed, [(left, top, end - left, low - top) for left, top, end, low in edges.tolist()]


def _to(shift: int, side: int) -> slice:
    """Where the lines of a picture that is moved lie afterwards."""
    return slice(max(0, shift), side + min(0, shift))

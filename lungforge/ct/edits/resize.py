"""Enlarge or shrink a nodule."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import BODY, NODULE
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import (
    EIGHT_NEIGHBOURS,
    VisibleNodule,
    is_consistent,
    surrounding_class,
    visible_nodules,
)
from lungforge.ct.nodules import SliceNodule
from lungforge.ct.resize import PixelMap, resize_nodule

FACTORS: Final = np.geomspace(0.6, 1.6, 99)
"""Possible factors of the diameter, in steps of one percent."""


def resize(
    label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]], *, generator: np.random.Generator
) -> EditedMap | None:
    """Scale one nodule about its centre, by a factor that is uniform over the valid ones.

    A factor is valid if the number of pixels changes with it and the nodule does not fall into more
    components. A nodule surrounded by its lung alone stays so, complete; one that touches the wall or another
    nodule grows into its lung only; one without lung around it can only shrink. Pixels that it leaves become
    lung, or body if there is no lung around it.

    Args:
        label: Classes, shape [H, W].
        nodules: The listed nodules.
        generator: Decides nodule and factor.

    Returns:
        The edited map; None if no factor is valid for any whole nodule.
    """
    shown = visible_nodules(label, nodules)
    for index in generator.permutation(len(shown)).tolist():
        if not shown[index].is_whole:
            continue
        for factor in generator.permutation(FACTORS).tolist():
            edited = _resize(label, shown, index, factor)
            if edited is not None:
                return edited
    return None


def _resize(
    label: NDArray[np.uint8], shown: list[VisibleNodule], index: int, factor: float
) -> EditedMap | None:
    mask = shown[index].mask
    home = surrounding_class(label, mask)
    allowed = mask | (label == home) if home != BODY else mask
    scaled = _scaled(shown[index], factor)
    inside = ndimage.binary_erosion(allowed, EIGHT_NEIGHBOURS)
    if inside[mask].all():
        if not inside[scaled].all():
            return None
    else:
        scaled &= allowed
    if not _is_valid(mask, scaled, factor):
        return None
    others = list(shown)
    nodule = shown[index].nodule
    diameters = {name: nodule[name] * factor for name in ("diameter_px", "diameter_mm")}
    others[index] = VisibleNodule({**nodule, **diameters}, scaled)
    after = np.where(mask, np.uint8(home), label)
    after[scaled] = NODULE
    if not is_consistent(after, others):
        return None
    return EditedMap.of("resize", label, after, [each.nodule for each in others])


def _scaled(shown: VisibleNodule, factor: float) -> NDArray[np.bool_]:
    """A nodule's pixels scaled about its centre; the area scales with the square of the factor."""
    nodule, shape = shown.nodule, shown.mask.shape
    # The centre is the fixed point of the mapping (p + 0.5) * factor - 0.5 + offset.
    offset = ((nodule["y"] + 0.5) * (1 - factor), (nodule["x"] + 0.5) * (1 - factor))
    pixel_map = PixelMap(shape, shape, (factor, factor), offset, spacing_mm=(1.0, 1.0))
    source = SliceNodule(nodule["x"], nodule["y"], nodule["diameter_px"], nodule["diameter_mm"], shown.mask)
    scaled = resize_nodule(source, pixel_map)
    return np.zeros(shape, bool) if scaled is None else scaled.mask


def _is_valid(mask: NDArray[np.bool_], scaled: NDArray[np.bool_], factor: float) -> bool:
    """Whether the number of pixels changed with the factor, without more connected components."""
    before, after = int(mask.sum()), int(scaled.sum())
    if after == 0 or math.copysign(1, factor - 1) * (after - before) <= 0:
        return False
    components, components_before = (ndimage.label(one, EIGHT_NEIGHBOURS)[1] for one in (scaled, mask))
    return components <= components_before

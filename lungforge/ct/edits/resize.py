"""Making a nodule larger or smaller."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import BODY, NODULE
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.geometry import EIGHT_NEIGHBOURS, Mask, ShownNodule, home_of, shown_nodules, shows
from lungforge.ct.nodules import SliceNodule
from lungforge.ct.resize import PixelMap, resize_nodule

FACTORS: Final = np.geomspace(0.6, 1.6, 99)
"""The factors that a diameter may change by, in steps of one percent."""


def resize(
    label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]], *, generator: np.random.Generator
) -> EditedMap | None:
    """Scale one nodule about its centre; all factors that are possible are as likely.

    A factor is possible when the nodule gets more pixels, or fewer, and falls into no more pieces than
    before. A nodule that has only its lung around it keeps it so, whole; one that touches the wall or another
    nodule grows into its lung only, and one that no lung touches can but shrink. Pixels that it leaves become
    lung (body, where no lung is).

    Args:
        label: Classes, shape [H, W].
        nodules: The nodules in the list.
        generator: Decides which nodule, and the factor.

    Returns:
        None when no factor is possible for any nodule that is whole.
    """
    shown = shown_nodules(label, nodules)
    for index in generator.permutation(len(shown)).tolist():
        if not shown[index].is_whole:
            continue
        for factor in generator.permutation(FACTORS).tolist():
            edited = _resize(label, shown, index, factor)
            if edited is not None:
                return edited
    return None


def _resize(
    label: NDArray[np.uint8], shown: list[ShownNodule], index: int, factor: float
) -> EditedMap | None:
    mask = shown[index].mask
    home = home_of(label, mask)
    allowed = mask | (label == home) if home != BODY else mask
    scaled = _scaled(shown[index], factor)
    inside = ndimage.binary_erosion(allowed, EIGHT_NEIGHBOURS)
    if inside[mask].all():
        if not inside[scaled].all():
            return None
    else:
        scaled &= allowed
    if not _follows(mask, scaled, factor):
        return None
    others = list(shown)
    nodule = shown[index].nodule
    diameters = {name: nodule[name] * factor for name in ("diameter_px", "diameter_mm")}
    others[index] = ShownNodule({**nodule, **diameters}, scaled)
    after = np.where(mask, np.uint8(home), label)
    after[scaled] = NODULE
    if not shows(after, others):
        return None
    return EditedMap.of("resize", label, after, [each.nodule for each in others])


def _scaled(shown: ShownNodule, factor: float) -> Mask:
    """A nodule's pixels, scaled about its centre; of an area larger by the factor's square."""
    nodule, shape = shown.nodule, shown.mask.shape
    # Of the mapping (p + 0.5) * factor - 0.5 + offset, the centre is the fixed point.
    offset = ((nodule["y"] + 0.5) * (1 - factor), (nodule["x"] + 0.5) * (1 - factor))
    pixel_map = PixelMap(shape, shape, (factor, factor), offset, spacing_mm=(1.0, 1.0))
    source = SliceNodule(nodule["x"], nodule["y"], nodule["diameter_px"], nodule["diameter_mm"], shown.mask)
    found = resize_nodule(source, pixel_map)
    return np.zeros(shape, bool) if found is None else found.mask


def _follows(mask: Mask, scaled: Mask, factor: float) -> bool:
    """Whether the pixels changed as the factor says, and hold together."""
    before, after = int(mask.sum()), int(scaled.sum())
    if after == 0 or math.copysign(1, factor - 1) * (after - before) <= 0:
        return False
    pieces, pieces_before = (ndimage.label(one, EIGHT_NEIGHBOURS)[1] for one in (scaled, mask))
    return pieces <= pieces_before

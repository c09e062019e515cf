"""Segmentation of lungs and airways: threshold, remove other air, separate the lungs, close.

The steps follow Hu, Hoffman and Reinhardt, IEEE Transactions on Medical Imaging 20 (2001) 490-498. They run
at half the in-plane resolution; the outline is then refined at full resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import LEFT_LUNG, RIGHT_LUNG, TRACHEA
from lungforge.ct.geometry import Geometry
from lungforge.ct.segmentation.airways import segment_airways
from lungforge.ct.segmentation.body import body_mask
from lungforge.ct.segmentation.lung_sides import left_lung_mask
from lungforge.ct.segmentation.morphology import close_lung, dilate, erode, refine_outline

LUNG_AIR_HU = -400
"""Voxels of the body below this are lung, airway or bowel gas."""

_GAS_HU = -940
"""Gas in the bowel or in clothes is pure air, about -1000 HU; a lung contains tissue."""
_TISSUE_HU = -900
_GAS_TISSUE = 0.1
"""Gas has less than this share of its voxels above _TISSUE_HU; lungs with emphysema have more."""
_SMALL_GAS_HU = -890
_SMALL_MM2 = 1000.0
"""A lung component smaller than this per slice is a tip or a rim, with partial volume and so less dark."""
_SMALLEST_MM2 = 60.0
"""Minimum area of lung that the end of the volume cuts off."""
_SMALLEST_MM3 = 2000.0
"""Minimum volume of lung that lies within the volume."""
_SKIN_MM = 8.0
"""Minimum depth of lung below the skin; air in folds and clothes is shallower."""
_COARSE_BELOW_MM = 1.2
"""In-plane spacing below which half the resolution suffices."""


@dataclass(frozen=True)
class _CoarseGrid:
    """The coarse grid."""

    spacing_mm: tuple[float, float, float]
    """Spacing along z, y and x."""
    leftward_mm: NDArray[np.float64]
    """Displacement to the patient's left per voxel, along z, y and x."""


def segment_lungs(
    hu: NDArray[np.int16], geometry: Geometry, indices: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Segment both lungs and the airways.

    Args:
        hu: Hounsfield units, shape [Z, H, W].
        geometry: Geometry of the volume.
        indices: Slices to return, all by default. The whole volume is segmented in any case.

    Returns:
        Classes left lung, right lung and trachea, 0 elsewhere; shape [Z or len(indices), H, W].
    """
    factor = 2 if max(geometry.spacing_mm[:2]) < _COARSE_BELOW_MM and min(hu.shape[1:]) >= 64 else 1
    grid = _grid(geometry, factor)
    coarse = _shrink(hu, factor)
    body = body_mask(hu[:, ::factor, ::factor])
    air = (coarse < LUNG_AIR_HU) & body
    z_axis_up = geometry.direction[2][2] >= 0
    top_down = range(len(hu) - 1, -1, -1) if z_axis_up else range(len(hu))
    lumen = segment_airways(coarse, body, grid.spacing_mm[1:], top_down)
    sides = _choose(air & ~dilate(lumen, 2), coarse, body, grid)
    airways = dilate(lumen, 1) & air & (sides == 0)
    if indices is not None:
        chosen = list(indices)
        hu, sides, airways, air, body = hu[chosen], sides[chosen], airways[chosen], air[chosen], body[chosen]
    classes = np.where(airways, np.uint8(TRACHEA), np.uint8(0))
    for side in (LEFT_LUNG, RIGHT_LUNG):
        closed = close_lung(sides == side, grid.spacing_mm[1:])
        classes[closed & body & (classes == 0)] = side
    classes[sides > 0] = sides[sides > 0]  # closing must not take voxels of the other lung
    return classes if factor == 1 else refine_outline(classes, air, hu < LUNG_AIR_HU, factor)


def _grid(geometry: Geometry, factor: int) -> _CoarseGrid:
    x_mm, y_mm, z_mm = geometry.spacing_mm
    spacing = (z_mm, y_mm * factor, x_mm * factor)
    return _CoarseGrid(spacing, np.array(geometry.direction[0][::-1]) * spacing)


def _shrink(hu: NDArray[np.int16], factor: int) -> NDArray[np.int16]:
    """Means of blocks of factor x factor pixels, with padding and metal clipped."""
    clipped = np.clip(hu, -1000, 1000)
    if factor == 1:
        return clipped
    _, height, width = hu.shape
    if height % 2 or width % 2:
        # An odd last row or column counts twice.
        clipped = np.pad(clipped, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    total = clipped[:, ::2, ::2] + clipped[:, 1::2, ::2]
    total += clipped[:, ::2, 1::2]
    total += clipped[:, 1::2, 1::2]
    return total // np.int16(4)


def _choose(
    air: NDArray[np.bool_], hu: NDArray[np.int16], body: NDArray[np.bool_], grid: _CoarseGrid
) -> NDArray[np.uint8]:
    """Select the components of air that are lung, and label them left or right."""
    labels, count = ndimage.label(air)
    sides = np.zeros(air.shape, np.uint8)
    components = np.flatnonzero(_are_lung(labels, count, hu, body, grid))
    if not len(components):
        return sides
    boxes = ndimage.find_objects(labels)
    sparse = np.argwhere(body[:, ::4, ::4]) * [1, 4, 4]
    across = sparse @ grid.leftward_mm
    middle, width = float(np.median(across)), float(np.ptp(across))
    for component in components:
        box = boxes[component - 1]
        mask = labels[box] == component
        start = float(np.array([axis.start for axis in box]) @ grid.leftward_mm) - middle
        is_left = left_lung_mask(mask, hu[box], grid.leftward_mm, start, width)
        sides[box][mask] = np.where(is_left[mask], LEFT_LUNG, RIGHT_LUNG)
    return sides


def _are_lung(
    labels: NDArray[np.int32], count: int, hu: NDArray[np.int16], body: NDArray[np.bool_], grid: _CoarseGrid
) -> NDArray[np.bool_]:
    """Which components of air are lung; index 0 is the background."""
    z_mm, y_mm, x_mm = grid.spacing_mm
    air = np.flatnonzero(labels)
    components = labels.ravel()[air]
    voxels = np.bincount(components, minlength=count + 1)
    volume = voxels * (z_mm * y_mm * x_mm)
    cut_off = np.zeros(count + 1, bool)
    cut_off[labels[[0, -1]]] = True
    keep = volume >= np.where(cut_off, _SMALLEST_MM2 * z_mm, _SMALLEST_MM3)
    keep[0] = False
    core = erode(labels > 0, 1).ravel()[air]
    values, in_core = hu.ravel()[air[core]], components[core]
    core_voxels = np.maximum(np.bincount(in_core, minlength=count + 1), 1)
    mean = np.bincount(in_core, values, count + 1) / core_voxels  # 0, which is not gas, without a core
    tissue = np.bincount(in_core, values > _TISSUE_HU, count + 1) / core_voxels
    gas = (mean < _GAS_HU) & (tissue < _GAS_TISSUE)
    gas |= (mean < _SMALL_GAS_HU) & (volume < _SMALL_MM2 * z_mm)
    deep = erode(body, max(1, round(_SKIN_MM / y_mm))).ravel()[air]
    shallow = np.bincount(components, deep, count + 1) < 0.5 * voxels
    return keep & ~gas & ~shallow

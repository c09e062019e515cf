"""Faults that are planted on real slices to see which measures notice them, and copies passed off as new."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.window import WINDOW_HU
from lungforge.datasets.slices import SliceRow
from lungforge.metrics.fidelity import RING_INNER_MM, nodule_surroundings

#: Bright structures in the lungs that are narrower than this are vessels, mm.
_VESSEL_MM: Final = 12.0

Slice = NDArray[np.float32]
Plant = Callable[[SliceRow, np.random.Generator], SliceRow]


def brighter(by_hu: float) -> Plant:
    """So many HU more in every pixel of the body; the air outside, which would give it away, stays."""

    def plant(row: SliceRow, generator: np.random.Generator) -> SliceRow:
        return _with_image(row, row.image + by_hu * (row.label != classes.BACKGROUND))

    return plant


def contrast(factor: float) -> Plant:
    """Every pixel of the body this much as far from the body's mean."""

    def plant(row: SliceRow, generator: np.random.Generator) -> SliceRow:
        body = row.label != classes.BACKGROUND
        if not body.any():
            return row
        middle = row.image[body].mean()
        return _with_image(row, np.where(body, middle + factor * (row.image - middle), row.image))

    return plant


def blur(row: SliceRow, generator: np.random.Generator) -> SliceRow:
    """The mean of 3 x 3 pixels."""
    return _with_image(row, ndimage.uniform_filter(row.image.astype(np.float64), 3))


def noise(deviation_hu: float) -> Plant:
    """White noise of this standard deviation."""

    def plant(row: SliceRow, generator: np.random.Generator) -> SliceRow:
        return _with_image(row, row.image + generator.normal(scale=deviation_hu, size=row.image.shape))

    return plant


def vessels_removed(row: SliceRow, generator: np.random.Generator) -> SliceRow:
    """Lungs without bright structures narrower than 12 mm or 3 px: a morphological opening inside them."""
    lungs = (row.label == classes.LEFT_LUNG) | (row.label == classes.RIGHT_LUNG)
    size = [max(3, 2 * round(_VESSEL_MM / spacing / 2) + 1) for spacing in row.spacing_mm]
    values = row.image.astype(np.float64)
    eroded = ndimage.grey_erosion(np.where(lungs, values, np.inf), size)
    opened = ndimage.grey_dilation(np.where(lungs, eroded, -np.inf), size)
    return _with_image(row, np.where(lungs, np.minimum(values, opened), values))


def nodules_removed(row: SliceRow, generator: np.random.Generator) -> SliceRow:
    """Nodules and lung within 2 mm of them replaced by random pixels of the lung around, not in the map."""
    image = row.image.copy()
    for nodule in nodule_surroundings(row.label, row.spacing_mm):
        distance = ndimage.distance_transform_edt(~nodule.inside, sampling=row.spacing_mm)
        lungs = (row.label == classes.LEFT_LUNG) | (row.label == classes.RIGHT_LUNG)
        gone = nodule.inside | (lungs & (distance < RING_INNER_MM))
        image[gone] = generator.choice(row.image[nodule.lung], np.count_nonzero(gone))
    return _with_image(row, image)


def wrong_spacing(row: SliceRow, generator: np.random.Generator) -> SliceRow:
    """Pixels said to be a quarter larger than they are."""
    height, width = row.spacing_mm
    return dataclasses.replace(row, spacing_mm=(1.25 * height, 1.25 * width))


def moved(
    hu: Slice, *, degrees: float = 0.0, zoom: float = 1.0, down: float = 0.0, right: float = 0.0
) -> Slice:
    """A slice turned and enlarged about its centre, then shifted; bilinear, the edge continued."""
    angle = np.deg2rad(degrees)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    centre = (np.array(hu.shape) - 1) / 2
    offset = centre - back @ (centre + np.array([down, right]))
    return np.asarray(ndimage.affine_transform(hu, back, offset, order=1, mode="nearest"), dtype=np.float32)


def _copy(change: Callable[[Slice], Slice]) -> Plant:
    """The slice with its image changed as a whole."""
    return lambda row, generator: _with_image(row, change(row.image.astype(np.float32)))


def _with_image(row: SliceRow, values: NDArray[np.floating] | NDArray[np.integer]) -> SliceRow:
    """The slice with another image, inside the window as any generator's."""
    return dataclasses.replace(row, image=np.clip(np.rint(values), *WINDOW_HU).astype(np.int16))


#: What can be wrong with synthetic slices, by its name.
FAULTS: Final[dict[str, Plant]] = {
    "+25 HU": brighter(25),
    "+50 HU": brighter(50),
    "+200 HU": brighter(200),
    "contrast 0.8": contrast(0.8),
    "blur 3x3": blur,
    "noise 20 HU": noise(20),
    "noise 60 HU": noise(60),
    "vessels removed": vessels_removed,
    "nodules removed": nodules_removed,
    "wrong spacing": wrong_spacing,
}

#: Real slices passed off as synthetic ones, by what was done to them.
COPIES: Final[dict[str, Plant]] = {
    "mirrored": _copy(lambda hu: hu[:, ::-1]),
    "shifted by 1 px": _copy(partial(moved, down=1, right=1)),
    "shifted by 3 px": _copy(partial(moved, down=3, right=3)),
    "rotated by 2 degrees": _copy(partial(moved, degrees=2)),
    "enlarged by 3 %": _copy(partial(moved, zoom=1.03)),
    "with noise of 20 HU": noise(20),
    "brighter by 50 HU": brighter(50),
}

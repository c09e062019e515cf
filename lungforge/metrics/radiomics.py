"""Radiomic features of a slice: intensity, texture and shape in the regions of its map.

Features after the Image Biomarker Standardisation Initiative (Zwanenburg et al., "The Image Biomarker
Standardization Initiative", 2020), in two dimensions: Hounsfield units within the window, grey levels of 25
HU for entropy and co-occurrence. What a network trained on photographs does not see (brightness, noise,
spacing) is a column of its own here.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.window import WINDOW_HU
from lungforge.metrics import texture
from lungforge.metrics.fidelity import nodule_surroundings

#: Changes with every change of a formula, so that kept features are not mixed with others.
FORMULAS: Final = 1
#: In regions with fewer pixels nothing is measured.
FEWEST_PIXELS: Final = 30
#: Lung brighter than this is a vessel: partial volume included, so that it shows at coarse pixels, too.
_VESSEL_HU: Final = -500.0
#: Lung darker than this counts as emphysema: Müller et al., "Density mask", 1988.
_LOW_ATTENUATION_HU: Final = -950.0
_FAT_HU: Final = (-200.0, -30.0)
_BONE_HU: Final = 150.0
#: A nodule's pixel above this is solid, not lung.
_SOLID_HU: Final = -400.0
#: Standard deviations of the smoothing between the bands of texture, in mm.
_BANDS_MM: Final = (4.0, 8.0)

Region = Literal["lungs", "body", "nodules"]
Unit = Literal["HU", "times", "share", "plain"]

REGIONS: Final[tuple[Region, ...]] = ("lungs", "body", "nodules")


@dataclass(frozen=True)
class Feature:
    """A radiomic feature.

    Attributes:
        region: Where it is measured: both lungs; the body without lungs, trachea and nodules; or nodules and
            the lung around them.
        name: What is measured, in words.
        unit: How a change of it is stated: in HU, as a share of 1, as so many times as much (positive values,
            compared by their logarithms), or plainly.
    """

    region: Region
    name: str
    unit: Unit


_COMMON: Final[tuple[tuple[str, Unit], ...]] = (
    ("10th percentile", "HU"),
    ("median", "HU"),
    ("90th percentile", "HU"),
    ("standard deviation", "times"),
    ("skewness", "plain"),
    ("entropy", "plain"),
    ("roughness (mean of |Laplacian|)", "times"),
    ("noise (20th percentile of the local standard deviation)", "times"),
    ("gradient per mm", "times"),
    ("texture finer than 4 mm", "times"),
    ("texture of 4 to 8 mm", "times"),
    ("correlation of neighbours", "plain"),
    ("homogeneity", "plain"),
    ("area", "times"),
)
_OF_REGION: Final[dict[Region, tuple[tuple[str, Unit], ...]]] = {
    "lungs": (
        *_COMMON,
        ("share of vessels", "share"),
        ("contrast of vessels", "HU"),
        ("share of low attenuation", "share"),
    ),
    "body": (*_COMMON, ("share of fat", "share"), ("share of bone", "share")),
    "nodules": (
        ("mean", "HU"),
        ("contrast to the lung", "HU"),
        ("mean of the lung around", "HU"),
        ("edge per mm", "times"),
        ("solid share", "share"),
    ),
}
#: The columns of ``radiomic_features``.
FEATURES: Final[tuple[Feature, ...]] = tuple(
    Feature(region, name, unit) for region in REGIONS for name, unit in _OF_REGION[region]
)


@functools.cache
def columns_of(region: Region) -> NDArray[np.int64]:
    """The columns of a region's features."""
    return np.flatnonzero([feature.region == region for feature in FEATURES])


def radiomic_features(
    hu: NDArray[np.int16], label: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """The features of one slice.

    Args:
        hu: ``[H, W]`` int16.
        label: Its map, ``[H, W]`` uint8.
        spacing_mm: Of the pixels, [row, column].

    Returns:
        float32 ``[F]`` in the order of ``FEATURES``; NaN in regions that the slice does not show.
    """
    values = np.clip(hu, *WINDOW_HU).astype(np.float32)
    lungs = (label == classes.LEFT_LUNG) | (label == classes.RIGHT_LUNG)
    measured = {
        "lungs": _region(values, lungs, spacing_mm, _of_lungs),
        "body": _region(values, label == classes.BODY, spacing_mm, _of_body),
        "nodules": _nodules(values, label, spacing_mm),
    }
    return np.concatenate(
        [
            np.full(len(_OF_REGION[region]), np.nan) if measured[region] is None else measured[region]
            for region in REGIONS
        ]
    ).astype(np.float32)


def radiomic_features_of(
    hu: Iterable[NDArray[np.int16]],
    labels: Iterable[NDArray[np.uint8]],
    spacings_mm: Iterable[Sequence[float]],
) -> NDArray[np.float32]:
    """The features of some slices, float32 ``[N, F]``; each is what ``radiomic_features`` gives for it."""
    return np.stack([radiomic_features(*given) for given in zip(hu, labels, spacings_mm, strict=True)])


def _region(
    values: NDArray[np.float32],
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    more: Callable[[NDArray[np.float32], NDArray[np.float64]], tuple[float, ...]],
) -> list[float] | None:
    """Intensity, texture and area of a region, and what ``more`` adds; None where it is too small."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    values, mask = values[box], mask[box]
    inside = texture.interior(mask)
    if np.count_nonzero(inside) < FEWEST_PIXELS:
        return None
    pixels = values[mask].astype(np.float64)
    middle = float(pixels.mean())
    spread = float(pixels.std())
    low, median, high = np.percentile(pixels, [10, 50, 90]).tolist()
    levels = texture.grey_levels(values)
    fine, coarse = texture.band_deviations(values, mask, spacing_mm, _BANDS_MM)
    correlation, homogeneity = texture.co_occurrence(levels, mask)
    return [
        low,
        median,
        high,
        spread,
        float((((pixels - middle) / spread) ** 3).mean()) if spread else 0.0,
        texture.entropy(levels[mask]),
        float(np.abs(texture.laplacian(values)[inside]).mean()),
        float(np.percentile(texture.local_deviation(values)[inside], 20)),
        float(texture.gradient(values, spacing_mm)[inside].mean()),
        fine,
        coarse,
        correlation,
        homogeneity,
        len(pixels) * spacing_mm[0] * spacing_mm[1] / 100.0,
        *more(values[inside], pixels),
    ]


def _of_lungs(inside: NDArray[np.float32], pixels: NDArray[np.float64]) -> tuple[float, ...]:
    """Vessels, away from the border, where the chest wall shines in; and emphysema."""
    return (
        float((inside > _VESSEL_HU).mean()),
        float(np.percentile(inside, 98) - np.median(inside)),
        float((pixels < _LOW_ATTENUATION_HU).mean()),
    )


def _of_body(inside: NDArray[np.float32], pixels: NDArray[np.float64]) -> tuple[float, ...]:
    del inside
    fat = (pixels >= _FAT_HU[0]) & (pixels < _FAT_HU[1])
    return float(fat.mean()), float((pixels > _BONE_HU).mean())


def _nodules(
    values: NDArray[np.float32], label: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> list[float] | None:
    """The nodules of a slice and the lung around each; None without a nodule that has lung around it."""
    nodules = nodule_surroundings(label, spacing_mm)
    if not nodules:
        return None
    lung = (label == classes.LEFT_LUNG) | (label == classes.RIGHT_LUNG)
    measured = []
    for nodule in nodules:
        inside, around = values[nodule.inside], values[nodule.lung]
        measured.append(
            (
                float(inside.mean()),
                float(inside.mean() - around.mean()),
                float(around.mean()),
                _edge(values, nodule.inside, lung, spacing_mm),
                float((inside > _SOLID_HU).mean()),
            )
        )
    return np.mean(measured, axis=0).tolist()


def _edge(
    values: NDArray[np.float32],
    nodule: NDArray[np.bool_],
    lung: NDArray[np.bool_],
    spacing_mm: Sequence[float],
) -> float:
    """Mean absolute difference per mm between neighbours, one nodule and one lung; 0 without any."""
    steps = []
    for image, inside, outside, spacing in (
        (values, nodule, lung, spacing_mm[1]),
        (values.T, nodule.T, lung.T, spacing_mm[0]),
    ):
        border = (inside[:, 1:] & outside[:, :-1]) | (inside[:, :-1] & outside[:, 1:])
        steps.append(np.abs(np.diff(image, axis=1))[border] / spacing)
    every = np.concatenate(steps)
    return float(every.mean()) if len(every) else 0.0

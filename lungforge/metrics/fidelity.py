"""Does a synthetic slice hold what its map says? Hounsfield units by class, and the contrast of nodules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.boxes import bounding_box
from lungforge.ct.window import WINDOW_HU

#: Nodule pixels are compared with lung from this far, beyond what they blur into ...
RING_INNER_MM: Final = 2.0
#: ... to this far from them.
RING_OUTER_MM: Final = 10.0

_LOWEST_HU, _HIGHEST_HU = (int(edge) for edge in WINDOW_HU)


@dataclass(frozen=True)
class ClassHistogram:
    """How often each Hounsfield unit occurs in each class; adds up over parts without loss.

    Values beyond the window count at its edges, for real images too: a generator never saw more.

    Attributes:
        counts: ``[classes, units]`` int64; column 0 is the lower edge of the window.
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> "ClassHistogram":
        """Of no images."""
        return cls(np.zeros((classes.COUNT, _HIGHEST_HU - _LOWEST_HU + 1), dtype=np.int64))

    @classmethod
    def of(cls, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> "ClassHistogram":
        """Of slices ``hu [N, H, W]`` int16 and their maps ``labels [N, H, W]`` uint8."""
        units = _HIGHEST_HU - _LOWEST_HU + 1
        values = np.clip(hu, _LOWEST_HU, _HIGHEST_HU).astype(np.int64) - _LOWEST_HU
        flat = np.bincount(
            (labels.astype(np.int64) * units + values).ravel(), minlength=classes.COUNT * units
        )
        return cls(flat.reshape(classes.COUNT, units))

    def __add__(self, other: "ClassHistogram") -> "ClassHistogram":
        return ClassHistogram(self.counts + other.counts)

    def pixels(self, label: int) -> int:
        """Number of pixels of a class."""
        return int(self.counts[label].sum())

    def quantile(self, label: int, fraction: float) -> int | None:
        """The lowest HU that this fraction of a class's pixels does not exceed; None without pixels."""
        cumulative = np.cumsum(self.counts[label])
        if cumulative[-1] == 0:
            return None
        return int(np.searchsorted(cumulative, fraction * cumulative[-1])) + _LOWEST_HU


@dataclass(frozen=True)
class NoduleSurroundings:
    """A nodule of a slice, and the lung around it.

    Attributes:
        inside: The nodule's pixels, bool ``[H, W]``.
        lung: Pixels of lung 2 to 10 mm from it, and not within 2 mm of another nodule; at least one.
    """

    inside: NDArray[np.bool_]
    lung: NDArray[np.bool_]


def nodule_surroundings(label: NDArray[np.uint8], spacing_mm: Sequence[float]) -> list[NoduleSurroundings]:
    """The nodules of a map that have lung around them.

    Args:
        label: ``[H, W]`` uint8.
        spacing_mm: Of the pixels, [row, column].
    """
    nodules = label == classes.NODULE
    if not nodules.any():
        return []
    # Beyond this box, everything is farther from all nodules than the ring.
    down, right = (math.ceil(RING_OUTER_MM / spacing) for spacing in spacing_mm)
    box = bounding_box(nodules, (down, right))
    near = label[box]
    components, count = ndimage.label(nodules[box], structure=np.ones((3, 3)))
    lung = (near == classes.LEFT_LUNG) | (near == classes.RIGHT_LUNG)
    distances = ndimage.distance_transform_edt(~nodules[box], sampling=spacing_mm)
    lung &= (distances >= RING_INNER_MM) & (distances <= RING_OUTER_MM)
    surroundings = []
    for component in range(1, count + 1):
        inside = components == component
        around = lung
        if count > 1:
            around = lung & (ndimage.distance_transform_edt(~inside, sampling=spacing_mm) <= RING_OUTER_MM)
        if around.any():
            surroundings.append(
                NoduleSurroundings(*(_placed(mask, box, label.shape) for mask in (inside, around)))
            )
    return surroundings


def _placed(mask: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask of a part of a slice as one of the whole slice."""
    whole = np.zeros(shape, dtype=bool)
    whole[box] = mask
    return whole


def nodule_contrasts(
    hu: NDArray[np.int16], label: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> list[float]:
    """How much brighter each nodule of a slice is than the lung around it.

    Args:
        hu: ``[H, W]`` int16.
        label: ``[H, W]`` uint8.
        spacing_mm: Of the pixels, [row, column].

    Returns:
        For each connected nodule its mean HU minus the mean of the lung 2 to 10 mm from it, both within the
        window. Nodules without lung there are left out: the chest wall beside them says nothing.
    """
    values = np.clip(hu, _LOWEST_HU, _HIGHEST_HU).astype(np.float64)
    return [
        float(values[nodule.inside].mean() - values[nodule.lung].mean())
        for nodule in nodule_surroundings(label, spacing_mm)
    ]


def class_medians(hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Median HU of each class in each slice, within the window.

    Args:
        hu: ``[N, H, W]`` int16.
        labels: ``[N, H, W]`` uint8.

    Returns:
        float32 ``[N, classes]``; NaN where a slice does not show a class.
    """
    medians = np.full((len(hu), classes.COUNT), np.nan, dtype=np.float32)
    for row in range(len(hu)):
        # Of so few values, counting is several times as fast as sorting.
        up_to = np.cumsum(ClassHistogram.of(hu[row], labels[row]).counts, axis=1)
        for each in np.flatnonzero(up_to[:, -1]).tolist():
            pixels = int(up_to[each, -1])
            middle = np.searchsorted(up_to[each], [(pixels - 1) // 2, pixels // 2], side="right")
            medians[row, each] = middle.mean() + _LOWEST_HU
    return medians

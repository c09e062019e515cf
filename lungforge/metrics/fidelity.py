"""Does a synthetic slice hold what its map says? Hounsfield units by class, and the contrast of nodules."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.window import WINDOW_HU

#: Nodule pixels are compared with the tissue from this far ...
RING_INNER_PX: Final = 2
#: ... to this far from them.
RING_OUTER_PX: Final = 5

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


def nodule_contrasts(hu: NDArray[np.int16], label: NDArray[np.uint8]) -> list[float]:
    """How much brighter each nodule of a slice is than what is around it.

    Args:
        hu: ``[H, W]`` int16.
        label: ``[H, W]`` uint8.

    Returns:
        For each connected nodule its mean HU minus the mean of the ring of other tissue around it (2 to
        5 px away), both within the window; nodules without such a ring are left out.
    """
    nodules = label == classes.NODULE
    components, count = ndimage.label(nodules, structure=np.ones((3, 3)))
    if not count:
        return []
    values = np.clip(hu, _LOWEST_HU, _HIGHEST_HU).astype(np.float64)
    clear = ndimage.distance_transform_edt(~nodules) >= RING_INNER_PX
    around = clear & (label != classes.BACKGROUND)
    contrasts = []
    for component in range(1, count + 1):
        inside = components == component
        ring = around & (ndimage.distance_transform_edt(~inside) <= RING_OUTER_PX)
        if ring.any():
            contrasts.append(float(values[inside].mean() - values[ring].mean()))
    return contrasts

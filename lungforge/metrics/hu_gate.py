"""The gate on Hounsfield units: which class medians real slices have, and which slices leave that range.

After MAISI (arXiv 2409.11169), which samples a volume again when the median of an organ is not one that the
training volumes have.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.metrics.fidelity import class_medians

#: Pixels of a class in an image from which its median counts: the standard error of a median is 1.25 standard
#: deviations / sqrt(n), some 40 HU here where pixels of a class vary by 150.
LEAST_PIXELS: Final = 20
#: Slices that must show a class for it to have a range: a further slice of the same kind lies outside the
#: lowest and highest of n with probability 2 / (n + 1), which is 5 % here.
LEAST_SLICES: Final = 40
#: The range, as quantiles of the medians. Lowest and highest would be set by the oddest training slice: of
#: real slices that are 100 HU too bright, they let 24 % pass and this range none: see
#: docs/measurements/sampling.md.
QUANTILES: Final = (0.005, 0.995)


@dataclasses.dataclass(frozen=True)
class HuRanges:
    """The medians that each class has in real slices.

    Attributes:
        ranges: Lowest and highest, in HU, of each class; None of a class that too few slices show.
    """

    ranges: tuple[tuple[float, float] | None, ...]

    @classmethod
    def measure(cls, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> Self | None:
        """The ranges of some real slices; None where they are too few for any.

        Args:
            hu: ``[N, H, W]`` int16.
            labels: ``[N, H, W]`` uint8.
        """
        ranges = tuple(_range_of(medians) for medians in _counted_medians(hu, labels).T)
        return cls(ranges) if any(ranges) else None

    @classmethod
    def from_json(cls, document: Sequence[Sequence[float] | None]) -> Self:
        """From the details of a model; what ``to_json`` gives."""
        pairs = (None if pair is None else (float(pair[0]), float(pair[1])) for pair in document)
        return cls(tuple(pairs))

    def to_json(self) -> list[list[float] | None]:
        """As JSON values: for each class [lowest, highest], or null."""
        return [None if pair is None else list(pair) for pair in self.ranges]

    def outside(self, hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which slices have a class whose median is outside its range, bool ``[N]``.

        Args:
            hu: ``[N, H, W]`` int16.
            labels: ``[N, H, W]`` uint8.
        """
        limits = [(-np.inf, np.inf) if pair is None else pair for pair in self.ranges]
        lowest, highest = np.asarray(limits, dtype=np.float64).T
        medians = _counted_medians(hu, labels)
        # Comparisons with NaN are False: a class with too few pixels is not judged.
        return ((medians < lowest) | (medians > highest)).any(axis=1)


@dataclasses.dataclass(frozen=True)
class GateCounts:
    """What the gate did to some samples.

    Attributes:
        resampled: Images that were sampled more than once.
        retries: How often, beyond the first time, of all images together.
        outside: Images whose last try is outside the range, too; they are kept.
    """

    resampled: int = 0
    retries: int = 0
    outside: int = 0

    def __add__(self, other: "GateCounts") -> "GateCounts":
        return GateCounts(
            self.resampled + other.resampled, self.retries + other.retries, self.outside + other.outside
        )

    @classmethod
    def of_rows(cls, retries: NDArray[np.integer], outside: NDArray[np.bool_]) -> Self:
        """Of the columns ``hu_retries`` and ``hu_outside`` of samples, ``[N]`` each."""
        return cls(int((retries > 0).sum()), int(retries.sum()), int(outside.sum()))

    @classmethod
    def of_details(cls, details: dict[str, Any]) -> Self | None:
        """Of the details in the manifest of samples; None where there was no gate, or they are not sound."""
        document = details.get("hu_gate")
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(document, dict) or document.keys() != names:
            return None
        if not all(type(value) is int and value >= 0 for value in document.values()):
            return None
        return cls(**document)


def _range_of(medians: NDArray[np.float32]) -> tuple[float, float] | None:
    """The range of a class by its median in each slice, ``[N]``; None where too few slices show it."""
    values = medians[~np.isnan(medians)].astype(np.float64)
    if len(values) < LEAST_SLICES:
        return None
    lowest, highest = np.quantile(values, QUANTILES).round(2).tolist()
    return lowest, highest


def _counted_medians(hu: NDArray[np.int16], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Median HU of each class in each slice, ``[N, classes]``; NaN where it has too few pixels to count."""
    pixels = np.stack([(labels == each).sum(axis=(1, 2)) for each in range(classes.COUNT)], axis=1)
    return np.where(pixels >= LEAST_PIXELS, class_medians(hu, labels), np.float32(np.nan))

"""What the tasks of an evaluation find in the parts of datasets, and what they are given to look in."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray

from lungforge.datasets.patches import Cut
from lungforge.metrics import near_duplicates
from lungforge.metrics.fidelity import ClassHistogram, nodule_contrasts
from lungforge.metrics.leakage import scan_of
from lungforge.metrics.map_agreement import STRUCTURES, FoundAgain

#: Series and index of a slice.
Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """How a set of slices agrees with its maps.

    Attributes:
        histogram: HU by class.
        contrasts: Of the nodules, HU.
        dice: By structure, the overlap of what is found again with the map, for each slice that holds it;
            empty when nothing was looked for.
    """

    histogram: ClassHistogram
    contrasts: tuple[float, ...]
    dice: dict[str, tuple[float, ...]]

    @classmethod
    def empty(cls) -> "Fidelity":
        """Of no slices."""
        return cls(ClassHistogram.empty(), (), dict.fromkeys(STRUCTURES, ()))

    @classmethod
    def of(cls, hu: np.ndarray, labels: np.ndarray, found: Sequence[FoundAgain]) -> "Fidelity":
        """Of slices ``hu [N, H, W]``, their maps, and what was found in them again (nothing, or in each)."""
        contrasts = [
            value for image, label in zip(hu, labels, strict=True) for value in nodule_contrasts(image, label)
        ]
        return cls(
            histogram=ClassHistogram.of(hu, labels),
            contrasts=tuple(contrasts),
            dice={
                name: tuple(again.dice[name] for again in found if name in again.dice) for name in STRUCTURES
            },
        )

    def __add__(self, other: "Fidelity") -> "Fidelity":
        return Fidelity(
            self.histogram + other.histogram,
            self.contrasts + other.contrasts,
            {name: self.dice[name] + other.dice[name] for name in STRUCTURES},
        )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the numbers need of a set of slices.

    Attributes:
        features: ``[N, D]`` float32.
        keys: The slice that each is or, of synthetic ones, whose map it was drawn from.
        fidelity: To the maps.
    """

    features: np.ndarray
    keys: tuple[Key, ...]
    fidelity: Fidelity

    @property
    def scans(self) -> list[str]:
        """The scan of each."""
        return [scan_of(series) for series, _ in self.keys]


@dataclasses.dataclass(frozen=True)
class RealPart:
    """A part of real slices.

    Attributes:
        keys: Of each.
        subsets: Of each, int8 ``[N]``.
        corners: Where the patch that stands for each was cut, int64 ``[N, 2]``; zeros for whole slices.
        thumbnails: ``[N, S]`` uint8.
        rows: Those that were embedded, int64 ``[R]``.
        features: Of these, ``[R, D]`` float32.
        measured: Of those that are compared with; None when the part holds none.
    """

    keys: tuple[Key, ...]
    subsets: np.ndarray
    corners: np.ndarray
    thumbnails: np.ndarray
    rows: np.ndarray
    features: np.ndarray
    measured: Measured | None


@dataclasses.dataclass(frozen=True)
class Match:
    """The real slice most like a synthetic one.

    Attributes:
        sample_id: The synthetic slice.
        series_uid: The scan of the real one.
        slice_index: Its place in it.
        own_source: Whether the synthetic slice was drawn from its map.
        resemblance: How like they are.
    """

    sample_id: str
    series_uid: str
    slice_index: int
    own_source: bool
    resemblance: near_duplicates.Resemblance


@dataclasses.dataclass(frozen=True)
class Picture:
    """Rows of the report's grids: grey ``[H, W]`` uint8 each, and the map.

    Attributes:
        sample_id: The synthetic slice.
        source: The real slice.
        label: The map, uint8.
        real: The real slice; None where it is not at hand.
        synthetic: The synthetic slice.
    """

    sample_id: str
    source: Key
    label: np.ndarray
    real: np.ndarray | None
    synthetic: np.ndarray


@dataclasses.dataclass(frozen=True)
class Misfit:
    """A synthetic slice beside its map and what was found in it again.

    Attributes:
        sample_id: The synthetic slice.
        label: The map, uint8 ``[H, W]``.
        synthetic: The slice, grey, uint8.
        found: What was found.
    """

    sample_id: str
    label: np.ndarray
    synthetic: np.ndarray
    found: FoundAgain

    @property
    def lowest(self) -> float:
        """The overlap of the structure that agrees least."""
        return min(self.found.dice.values(), default=1.0)


@dataclasses.dataclass(frozen=True)
class SyntheticPart:
    """A part of synthetic slices.

    Attributes:
        measured: What the numbers need.
        matches: For each slice, the real one most like it.
        without_source: Slices whose own source is not among the real slices at hand.
        grid: Pictures of the rows asked for.
        worst: The slices most like a real one, beside that one.
        misfits: The slices that agree least with their maps.
        origin: Sampler, steps, guidance and edit of the first slice.
    """

    measured: Measured
    matches: tuple[Match, ...]
    without_source: int
    grid: tuple[Picture, ...]
    worst: tuple[tuple[Match, Picture], ...]
    misfits: tuple[Misfit, ...]
    origin: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RealPool:
    """All real slices that a synthetic one might have been copied from.

    Attributes:
        keys: Of each.
        thumbnails: ``[M, S]`` uint8.
        places: For each, the number of its part and its row there, ``[M, 2]``.
        corners: Where the patch that stands for each was cut, ``[M, 2]``; zeros for whole slices.
        cut: How patches are cut; None for whole slices.
        pictures: For each part, the reference to the grey pictures ``[N, H, W]`` uint8 of its whole slices.
    """

    keys: tuple[Key, ...]
    thumbnails: np.ndarray
    places: np.ndarray
    corners: np.ndarray
    cut: Cut | None
    pictures: tuple[Any, ...]

    @functools.cached_property
    def numbers(self) -> dict[Key, int]:
        """The place of each key in the pool."""
        return {key: number for number, key in enumerate(self.keys)}

    def picture(self, number: int, corner: tuple[int, int] | None = None) -> np.ndarray:
        """One grey picture, a view into Ray's object store: the slice, or a patch of it.

        Args:
            number: Of the slice.
            corner: Of the patch; None for the one that stands for the slice.
        """
        place = self.place(number, corner)
        if self.cut is None:
            return place.whole
        top, left = place.corner
        return place.whole[top : top + self.cut.size, left : left + self.cut.size]

    def place(self, number: int, corner: tuple[int, int] | None = None) -> near_duplicates.Place:
        """Where that picture lies in its slice."""
        part, row = self.places[number].tolist()
        top, left = self.corners[number].tolist() if corner is None else corner
        return near_duplicates.Place(ray.get(self.pictures[part])[row], (top, left))


def join(measured: Sequence[Measured]) -> Measured:
    """Several sets of slices as one, in the order given."""
    return Measured(
        features=np.concatenate([piece.features for piece in measured]),
        keys=tuple(key for piece in measured for key in piece.keys),
        fidelity=sum((piece.fidelity for piece in measured), Fidelity.empty()),
    )

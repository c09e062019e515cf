"""What the tasks of an evaluation return on the parts of datasets, and the real slices that they search."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset
from lungforge.datasets.patches import Cut
from lungforge.metrics import near_duplicates
from lungforge.metrics.fidelity import ClassHistogram, nodule_contrasts
from lungforge.metrics.map_agreement import STRUCTURES, Resegmentation
from services.eval.feature_cache import Network
from services.eval.set_results import GenerationSettings

#: Series and index of a slice.
Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """How a set of slices agrees with its maps.

    Attributes:
        histogram: HU by class.
        contrasts: Of the nodules, HU.
        dice: By structure, the overlap of segmentation and map for each slice that holds it; empty when the
            slices were not segmented.
    """

    histogram: ClassHistogram
    contrasts: tuple[float, ...]
    dice: dict[str, tuple[float, ...]]

    @classmethod
    def empty(cls) -> "Fidelity":
        """Of no slices."""
        return cls(ClassHistogram.empty(), (), dict.fromkeys(STRUCTURES, ()))

    @classmethod
    def of(
        cls,
        hu: NDArray[np.int16],
        labels: NDArray[np.uint8],
        spacings_mm: Sequence[Sequence[float]],
    ) -> "Fidelity":
        """Of slices ``hu [N, H, W]``, their maps and spacings; without their segmentations."""
        contrasts = [
            value for given in zip(hu, labels, spacings_mm, strict=True) for value in nodule_contrasts(*given)
        ]
        return cls(ClassHistogram.of(hu, labels), tuple(contrasts), dict.fromkeys(STRUCTURES, ()))

    def with_dice(self, overlaps: NDArray[np.float32]) -> "Fidelity":
        """The same with the overlaps of segmentations and maps, ``[N, S]``, NaN where there is none."""
        of_structure = zip(STRUCTURES, overlaps.T, strict=True)
        dice = {name: tuple(column[~np.isnan(column)].tolist()) for name, column in of_structure}
        return dataclasses.replace(self, dice=dice)

    def __add__(self, other: "Fidelity") -> "Fidelity":
        return Fidelity(
            self.histogram + other.histogram,
            self.contrasts + other.contrasts,
            {name: self.dice[name] + other.dice[name] for name in STRUCTURES},
        )


@dataclasses.dataclass(frozen=True)
class MeasuredSlices:
    """What the metrics need of a set of slices.

    Attributes:
        features: ``[N, D]`` float32.
        keys: The slice that each is or, of synthetic ones, whose map it was generated from.
        fidelity: To the maps.
        radiomics: Radiomic features ``[N, F]`` float32; NaN in regions that a slice does not show.
        medians: HU of each class ``[N, classes]`` float32; NaN where a slice does not show it.
        second: Features of a second network, ``[N, D]`` float32; None without one.
    """

    features: NDArray[np.float32]
    keys: tuple[Key, ...]
    fidelity: Fidelity
    radiomics: NDArray[np.float32]
    medians: NDArray[np.float32]
    second: NDArray[np.float32] | None = None

    @property
    def scans(self) -> list[str]:
        """The scan of each."""
        return [scan_of(series) for series, _ in self.keys]


@dataclasses.dataclass(frozen=True)
class RealSource:
    """A dataset of real slices, and what is to be read of each part; every task of the dataset shares it.

    Attributes:
        dataset: The slices.
        compared: The subsets that are compared with; None for all.
        embedded: The subsets whose features are wanted, the compared ones among them; None for all.
        network: The extractor.
        segmented: Whether to segment the slices that are compared with.
        cut: How patches are cut from the slices; None for whole slices.
        second: Another extractor, for the slices that are compared with; None without one.
    """

    dataset: Dataset
    compared: tuple[int, ...] | None
    embedded: tuple[int, ...] | None
    network: Network
    segmented: bool
    cut: Cut | None
    second: Network | None = None


@dataclasses.dataclass(frozen=True)
class RealPart:
    """A part of real slices.

    Attributes:
        keys: Of each.
        subsets: Of each, int8 ``[N]``.
        thumbnails: ``[N, S]`` float32; nothing where slices are cut to patches.
        rows: Those that were embedded, int64 ``[R]``.
        features: Of these, ``[R, D]`` float32.
        medians: HU of each class in each slice, ``[N, classes]`` float32.
        measured: Of those that are compared with; None when the part holds none.
    """

    keys: tuple[Key, ...]
    subsets: NDArray[np.int8]
    thumbnails: NDArray[np.float32]
    rows: NDArray[np.int64]
    features: NDArray[np.float32]
    medians: NDArray[np.float32]
    measured: MeasuredSlices | None


@dataclasses.dataclass(frozen=True)
class Match:
    """The real slice most like a synthetic one.

    Attributes:
        sample_id: The synthetic slice.
        series_uid: The scan of the real one.
        slice_index: Its index in the scan.
        is_source: Whether the synthetic slice was generated from its map.
        resemblance: How like they are.
    """

    sample_id: str
    series_uid: str
    slice_index: int
    is_source: bool
    resemblance: near_duplicates.Resemblance


@dataclasses.dataclass(frozen=True)
class SliceImages:
    """A synthetic slice and a real one for the report, grey ``[H, W]`` uint8 each, and the map.

    Attributes:
        sample_id: The synthetic slice.
        source: The real slice.
        label: The map, uint8.
        real: The real slice; None where it is not available.
        synthetic: The synthetic slice.
    """

    sample_id: str
    source: Key
    label: NDArray[np.uint8]
    real: NDArray[np.uint8] | None
    synthetic: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Misfit:
    """A synthetic slice beside its map and its segmentation.

    Attributes:
        sample_id: The synthetic slice.
        label: The map, uint8 ``[H, W]``.
        synthetic: The slice, grey, uint8.
        segmented: Its segmentation.
    """

    sample_id: str
    label: NDArray[np.uint8]
    synthetic: NDArray[np.uint8]
    segmented: Resegmentation

    @property
    def lowest(self) -> float:
        """The overlap of the structure that agrees least."""
        return min(self.segmented.dice.values(), default=1.0)


@dataclasses.dataclass(frozen=True)
class SyntheticPart:
    """A part of synthetic slices.

    Attributes:
        measured: What the metrics need.
        matches: For each slice, the real one most like it.
        without_source: Slices whose source is not among the available real slices.
        flat: Slices that have the same value everywhere, by their names.
        beyond: Slices with values that no CT has, by their names.
        grid: The images of the rows asked for.
        most_similar: The slices most like a real one, beside that one.
        misfits: The slices that agree least with their maps.
        settings: How the first slice was generated.
    """

    measured: MeasuredSlices
    matches: tuple[Match, ...]
    without_source: int
    flat: tuple[str, ...]
    beyond: tuple[str, ...]
    grid: tuple[SliceImages, ...]
    most_similar: tuple[tuple[Match, SliceImages], ...]
    misfits: tuple[Misfit, ...]
    settings: GenerationSettings


def fetch(kept: Any) -> Any:
    """An array, or what a reference in Ray's object store refers to."""
    return kept if isinstance(kept, np.ndarray) else ray.get(kept)


@dataclasses.dataclass(frozen=True)
class RealPool:
    """All real slices that a synthetic one might have been copied from.

    Attributes:
        keys: Of each.
        patients: A number for the patient of each, int64 ``[M]``.
        thumbnails: ``[M, S]`` float32; nothing where slices are cut to patches.
        rows: For each, the index of its part and its row there, int64 ``[M, 2]``, part by part.
        cut: How patches are cut; None for whole slices.
        images: For each part, its whole slices and their maps, ``[N, 2, H, W]`` uint8, or the reference to
            them in Ray's object store.
        cells: For each part, the textures ``[N, h, w]`` in which patches are looked up, or the reference to
            them; none for whole slices.
    """

    keys: tuple[Key, ...]
    patients: NDArray[np.int64]
    thumbnails: NDArray[np.float32]
    rows: NDArray[np.int64]
    cut: Cut | None
    images: tuple[Any, ...]
    cells: tuple[Any, ...]

    @functools.cached_property
    def indices(self) -> dict[Key, int]:
        """The index of each slice in the pool."""
        return {key: index for index, key in enumerate(self.keys)}

    def whole(self, index: int) -> NDArray[np.uint8]:
        """The grey image of a slice, a view."""
        return self.with_map(index)[0]

    def with_map(self, index: int) -> NDArray[np.uint8]:
        """The grey image of a slice and its map, ``[2, H, W]``, a view."""
        part, row = self.rows[index].tolist()
        images: NDArray[np.uint8] = fetch(self.images[part])
        return images[row]

    def image(self, index: int, corner: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
        """The grey image of a slice or, where slices are cut, of its patch at a corner, moved inside."""
        whole = self.whole(index)
        if self.cut is None:
            return whole
        top, left = (
            min(max(0, first), side - self.cut.size) for first, side in zip(corner, whole.shape, strict=True)
        )
        return whole[top : top + self.cut.size, left : left + self.cut.size]


@dataclasses.dataclass(frozen=True)
class RealCheck:
    """Real slices that are searched for as if they were synthetic; every task shares it.

    Attributes:
        dataset: The slices.
        pool: What they are searched in, but for those of the same patient.
    """

    dataset: Dataset
    pool: RealPool


@dataclasses.dataclass(frozen=True)
class SyntheticSource:
    """A dataset of synthetic slices, and what each is searched in; every task of the dataset shares it.

    Attributes:
        dataset: The samples.
        pool: The real slices.
        network: The extractor.
        segmented: Whether to segment the slices.
        second: Another extractor; None without one.
    """

    dataset: Dataset
    pool: RealPool
    network: Network
    segmented: bool
    second: Network | None = None


def join(measured: Sequence[MeasuredSlices]) -> MeasuredSlices:
    """Several sets of slices as one, in the order given."""
    second = [piece.second for piece in measured if piece.second is not None]
    return MeasuredSlices(
        features=np.concatenate([piece.features for piece in measured]),
        keys=tuple(key for piece in measured for key in piece.keys),
        fidelity=sum((piece.fidelity for piece in measured), Fidelity.empty()),
        radiomics=np.concatenate([piece.radiomics for piece in measured]),
        medians=np.concatenate([piece.medians for piece in measured]),
        second=np.concatenate(second) if second else None,
    )

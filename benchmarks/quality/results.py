"""What the comparison of generators found, as types; ``quality.json`` is a ``QualityReport``."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from lungforge.metrics.real_baseline import BaselineComparison
from lungforge.public_uri import json_bytes
from services.eval.copy_results import NearDuplicates
from services.eval.results import read_strictly
from services.eval.set_results import (
    FrechetResult,
    HounsfieldRow,
    KidResult,
    NoduleContrast,
    NotMeasured,
    PrecisionRecallResult,
    RadiomicResult,
)


@dataclass(frozen=True)
class SetQuality:
    """What is measured of a set of slices beside the real ones of the validation subsets.

    Attributes:
        images: How many slices.
        scans: Of how many scans they are, or their maps.
        hounsfield_units: A row for each class of the map; ``from_source`` only of generated slices.
        nodule_contrast_hu: Contrast of the nodules.
        radiomic: Radiomic Fréchet distance.
        frechet: Fréchet distance; its baseline is over the halves of ``benchmarks.steps``.
        kid: Kernel inception distance.
        precision_recall: Improved precision and recall.
        near_duplicates: Near-duplicates of training slices; of real slices, those of other scans.
    """

    images: int
    scans: int
    hounsfield_units: tuple[HounsfieldRow, ...]
    nodule_contrast_hu: NoduleContrast
    radiomic: RadiomicResult | NotMeasured
    frechet: FrechetResult
    kid: KidResult
    precision_recall: PrecisionRecallResult
    near_duplicates: NearDuplicates

    @property
    def hu_error(self) -> float | None:
        """Mean over the classes of the mean error of a slice's median, HU; None of real slices."""
        errors = [row.from_source for row in self.hounsfield_units if row.from_source is not None]
        return float(np.mean(errors)) if errors else None


@dataclass(frozen=True)
class TrainedModel:
    """A model of the comparison.

    Attributes:
        model: Which generator, and how it was trained.
        minutes: How long it was to train.
        minutes_taken: How long it did; None where that is not known.
        seed: Of its training and of its images.
        steps: Of its training.
        sampler: Its own default.
        evaluations: Of the network along one image.
        guidance: Scale of guidance.
        seconds_per_image: To sample one, in batches of eight.
        quality: Of an image of each map of the validation subsets.
    """

    model: str
    minutes: float
    minutes_taken: float | None
    seed: int
    steps: int
    sampler: str
    evaluations: int
    guidance: float
    seconds_per_image: float
    quality: SetQuality


@dataclass(frozen=True)
class QualityReport:
    """Everything that the comparison has to say.

    Attributes:
        train: Subsets that the generators were trained on.
        validate: Subsets that they are measured on.
        patch: Side of the patches, in px; None for whole slices.
        size: Side of the images, in px.
        threads: Of training and sampling.
        training_images: Slices of the training subsets.
        images: Slices of the validation subsets, and maps.
        scans: Scans that these are of.
        real: Slices of the training subsets, measured as if they were generated: in disjoint sets of as many
            as the validation subsets have.
        models: The generators.
        diverged: Trainings that diverged, and so have no model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    train: tuple[int, ...]
    validate: tuple[int, ...]
    patch: int | None
    size: int
    threads: int
    training_images: int
    images: int
    scans: int
    real: tuple[SetQuality, ...]
    models: tuple[TrainedModel, ...]
    diverged: tuple[str, ...]

    def groups(self) -> dict[tuple[str, float], list[TrainedModel]]:
        """The models by generator and minutes, in the order of the trainings; a model a seed in each."""
        found: dict[tuple[str, float], list[TrainedModel]] = {}
        for one in self.models:
            found.setdefault((one.model, one.minutes), []).append(one)
        return found

    def to_json(self) -> bytes:
        """The report as JSON."""
        return json_bytes(_adapter().dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, data: bytes) -> "QualityReport":
        """Read a report.

        Raises:
            ContentError: It is no such report.
        """
        return read_strictly(_adapter(), data, "no results of benchmarks.quality")


@functools.cache
def _adapter() -> TypeAdapter[QualityReport]:
    return TypeAdapter(QualityReport)


@dataclass(frozen=True)
class Measure:
    """A number for a set of slices, as tables and curves show it.

    Attributes:
        title: What it is called.
        value: Of a set; None where it was not measured.
        digits: After the decimal point.
        factor: By which it is multiplied to be shown.
    """

    title: str
    value: Callable[[SetQuality], float | None]
    digits: int
    factor: float = 1.0

    def of(self, sets: Sequence[SetQuality]) -> list[float]:
        """The values of some sets, as they are shown."""
        found = (self.value(one) for one in sets)
        return [self.factor * value for value in found if value is not None]


def _radiomic_distance(one: SetQuality) -> float | None:
    return None if isinstance(one.radiomic, NotMeasured) else one.radiomic.distance


#: Of all slices of a set.
HU_ERROR: Final = Measure("HU error per slice", lambda one: one.hu_error, 1)
RADIOMIC: Final = Measure("radiomic distance", _radiomic_distance, 1)
FRECHET: Final = Measure("Fréchet distance", lambda one: one.frechet.value, 1)
KID: Final = Measure("KID × 1000", lambda one: one.kid.mean, 1, 1000.0)
PRECISION: Final = Measure("precision", lambda one: one.precision_recall.precision.value, 2)
RECALL: Final = Measure("recall", lambda one: one.precision_recall.recall.value, 2)
MEASURES: Final = (HU_ERROR, RADIOMIC, FRECHET, KID, PRECISION, RECALL)

#: Measures that have a real-vs-real baseline over halves of the validation slices.
BASELINES: Final[tuple[tuple[Measure, Callable[[SetQuality], BaselineComparison | None]], ...]] = (
    (RADIOMIC, lambda one: None if isinstance(one.radiomic, NotMeasured) else one.radiomic.baseline),
    (FRECHET, lambda one: one.frechet.baseline),
    (KID, lambda one: one.kid.baseline),
    (PRECISION, lambda one: one.precision_recall.precision.baseline),
    (RECALL, lambda one: one.precision_recall.recall.baseline),
)

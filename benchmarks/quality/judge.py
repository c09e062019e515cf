"""Measuring sets of slices beside real validation slices, with the measures of ``lungforge evaluate``."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.results import SetQuality
from benchmarks.steps import compare_with_real
from lungforge.ct.io.patient_table import scan_of
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets.patches import Cut, cut_patch
from lungforge.datasets.slices import RowIndex, SliceRow, evenly
from lungforge.errors import InputError
from lungforge.metrics.features import Extractor
from lungforge.metrics.fidelity import class_medians
from lungforge.metrics.near_duplicates import thumbnails
from lungforge.metrics.patch_search import cells
from lungforge.metrics.permutation import permute_scans
from lungforge.metrics.radiomics import radiomic_features_of
from lungforge.randomness import numpy_generator
from services.eval import measure
from services.eval.copy_search import NOBODY, most_like
from services.eval.measure_distances import network_distances, precision_and_recall
from services.eval.measure_radiomics import radiomic
from services.eval.records import Fidelity, Match, MeasuredSlices, RealPool
from services.eval.rounding import rounded_baseline

#: Names and seeds what is random about the measures: the same for every set.
_NAME, _SEED = "quality", 0
#: Slices of each side, at least: enough for the third neighbour in halves.
FEWEST: Final = 10


def disjoint(count: int, size: int) -> list[NDArray[np.int64]]:
    """Disjoint sets of ``size`` positions, each spread evenly over ``count``; all where there are fewer."""
    sets = max(1, count // size)
    lanes = [np.arange(first, count, sets) for first in range(sets)]
    return [lane[evenly(len(lane), size)] for lane in lanes]


def read_slices(index: RowIndex, patch: int | None) -> list[SliceRow]:
    """All slices of an index; with ``patch``, a patch of each: the same one for every generator."""
    rows = index.read(range(len(index)))
    if patch is None:
        return rows
    return [
        cut_patch(row, patch, numpy_generator(_SEED, _NAME, "patch", row.series_uid, row.slice_index))
        for row in rows
    ]


def images_of(rows: Sequence[SliceRow]) -> NDArray[np.int16]:
    """Their HU, [N, H, W]."""
    return np.stack([row.image for row in rows])


def maps_of(rows: Sequence[SliceRow]) -> NDArray[np.uint8]:
    """Their maps, [N, H, W]."""
    return np.stack([row.label for row in rows])


@dataclass(frozen=True)
class Judge:
    """Measures sets of slices.

    Attributes:
        validation: The slices that are compared with.
        training: Slices that the generators were trained on, or the same patches of these.
        measured: What is measured of the validation slices.
        pool: The whole training slices, in which near-duplicates are looked for.
        extractor: Gives the features.
    """

    validation: tuple[SliceRow, ...]
    training: tuple[SliceRow, ...]
    measured: MeasuredSlices
    pool: RealPool
    extractor: Extractor

    @classmethod
    def of(cls, training: RowIndex, validation: RowIndex, patch: int | None, extractor: Extractor) -> "Judge":
        """Read the slices.

        Raises:
            InputError: There are too few.
        """
        for name, index in (("--train", training), ("--validate", validation)):
            if len(index) < FEWEST:
                raise InputError(f"{name} has {len(index)} slices; choose subsets with {FEWEST} or more")
        compared = read_slices(validation, patch)
        return cls(
            tuple(compared),
            tuple(read_slices(training, patch)),
            _measured(images_of(compared), compared, extractor),
            _pool(training, patch),
            extractor,
        )

    def of_generated(self, hu: NDArray[np.int16]) -> SetQuality:
        """Of a generated slice ``[N, H, W]`` for each map of the validation slices."""
        nobody = np.full(len(hu), NOBODY, np.int64)
        return self._quality(hu, self.validation, self.measured.medians, nobody)

    def of_real(self) -> tuple[SetQuality, ...]:
        """Of training slices: disjoint sets of as many as there are validation slices."""
        return tuple(
            self._quality(
                images_of([self.training[place] for place in chosen]),
                [self.training[place] for place in chosen],
                None,
                self.pool.patients[chosen],
            )
            for chosen in disjoint(len(self.training), len(self.validation))
        )

    def _quality(
        self,
        hu: NDArray[np.int16],
        rows: Sequence[SliceRow],
        sources: NDArray[np.float32] | None,
        patients: NDArray[np.int64],
    ) -> SetQuality:
        real, offered = self.measured, _measured(hu, rows, self.extractor)
        permutations = permute_scans(real.scans, offered.scans, numpy_generator(_SEED, _NAME, "permutations"))
        description = self.extractor.description
        distances = network_distances(_NAME, real, offered, description, permutations, _SEED)
        halves = compare_with_real(real.features, real.scans, offered.features)
        found = most_like(
            hu_to_uint8(hu), maps_of(rows), self.pool, sources=[None] * len(hu), patients=patients
        )
        matches = [
            Match(f"{row.series_uid}/{row.slice_index}", *self.pool.keys[one[0].index], False, one[1])
            for row, one in zip(rows, found, strict=True)
            if one is not None
        ]
        return SetQuality(
            images=len(hu),
            scans=len(set(offered.scans)),
            hounsfield_units=measure.hounsfield_units(real, offered, sources, permutations),
            nodule_contrast_hu=measure.nodule_contrast(real, offered),
            radiomic=radiomic(_NAME, real, offered, permutations, _SEED),
            frechet=dataclasses.replace(distances.frechet, baseline=rounded_baseline(halves)),
            kid=distances.kid,
            precision_recall=precision_and_recall(_NAME, real, offered, description, _SEED),
            near_duplicates=measure.near_duplicates(matches, ()),
        )


def _measured(hu: NDArray[np.int16], rows: Sequence[SliceRow], extractor: Extractor) -> MeasuredSlices:
    labels, spacings = maps_of(rows), [row.spacing_mm for row in rows]
    return MeasuredSlices(
        features=extractor.embed(hu),
        keys=tuple((row.series_uid, row.slice_index) for row in rows),
        fidelity=Fidelity.of(hu, labels, spacings),
        radiomics=radiomic_features_of(hu, labels, spacings),
        medians=class_medians(hu, labels),
    )


def _pool(index: RowIndex, patch: int | None) -> RealPool:
    """Whole slices to be searched, in this process."""
    rows = index.read(range(len(index)))
    grey = hu_to_uint8(images_of(rows))
    scans = [scan_of(row.series_uid) for row in rows]
    places = np.arange(len(rows))
    return RealPool(
        keys=tuple((row.series_uid, row.slice_index) for row in rows),
        patients=np.unique(np.asarray(scans), return_inverse=True)[1].astype(np.int64),
        thumbnails=thumbnails(grey) if patch is None else np.zeros((len(rows), 0), np.float32),
        rows=np.stack([np.zeros_like(places), places], axis=1),
        cut=None if patch is None else Cut(patch, _SEED),
        images=(np.stack([grey, maps_of(rows)], axis=1),),
        cells=() if patch is None else (cells(grey, patch),),
    )

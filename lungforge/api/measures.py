"""What ``lungforge.evaluate`` measures of slices and their maps: units, agreement, near-duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.api.results import Agreement, ClassUnits, NearDuplicate
from lungforge.ct import classes
from lungforge.ct.io.patient_table import scan_of
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.metrics.fidelity import ClassHistogram, class_medians
from lungforge.metrics.judgement import JUDGED_CLASSES
from lungforge.metrics.map_agreement import STRUCTURES, segment_and_compare
from lungforge.metrics.near_duplicates import Query, nearest, thumbnails
from lungforge.metrics.permutation import ScanPermutations, mean_shift_p_values
from lungforge.metrics.radiomics import radiomic_features_of

#: Real slices that each synthetic one is compared with, as by `lungforge evaluate`.
_NEIGHBOURS: Final = 8


@dataclass(frozen=True)
class Measured:
    """A set of slices, with what several measures need of it.

    Attributes:
        rows: The slices.
        hu: Of all of them, int16 [N, H, W].
        labels: Their maps, uint8 [N, H, W].
        scans: The scan of each.
        radiomics: Radiomic features, float32 [N, F].
    """

    rows: list[SliceRow]
    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    scans: list[str]
    radiomics: NDArray[np.float32]

    @classmethod
    def of(cls, name: str, rows: list[SliceRow]) -> "Measured":
        """Measure the slices of a set.

        Raises:
            InputError: They are fewer than two, or of several sizes.
        """
        if len(rows) < 2:
            raise InputError(f"{len(rows)} {name} slice; give two or more")
        if len({row.image.shape for row in rows}) > 1:
            raise InputError(f"the {name} slices are of several sizes in px; open them with one size")
        hu, labels = np.stack([row.image for row in rows]), np.stack([row.label for row in rows])
        spacings = [row.spacing_mm for row in rows]
        scans = [scan_of(row.series_uid) for row in rows]
        return cls(rows, hu, labels, scans, radiomic_features_of(hu, labels, spacings))

    @property
    def shape(self) -> str:
        """Height and width, in words."""
        return f"{self.hu.shape[1]} x {self.hu.shape[2]}"


def hounsfield_units(
    real: Measured, synthetic: Measured, permutations: ScanPermutations | None
) -> tuple[ClassUnits, ...]:
    """A row a class: median HU of its pixels, real and synthetic."""
    p_values = np.full(classes.COUNT, np.nan)
    if permutations is not None:
        one, other = (class_medians(each.hu, each.labels) for each in (real, synthetic))
        p_values = mean_shift_p_values(one, other, permutations)
    first, second = (ClassHistogram.of(each.hu, each.labels) for each in (real, synthetic))
    return tuple(
        ClassUnits(
            class_name=name,
            real=first.quantile(label, 0.5),
            synthetic=second.quantile(label, 0.5),
            p_value=None if np.isnan(p_values[label]) else float(p_values[label]),
            judged=label in JUDGED_CLASSES,
        )
        for label, name in enumerate(classes.NAMES)
    )


def map_agreement(real: Sequence[SliceRow], synthetic: Sequence[SliceRow]) -> tuple[Agreement, ...]:
    """A row a structure: its segmentation in the slices against their maps, real and synthetic."""
    sides = [
        [segment_and_compare(row.image, row.label, row.spacing_mm).dice for row in rows]
        for rows in (real, synthetic)
    ]

    def median(side: Sequence[dict[str, float]], structure: str) -> float | None:
        values = [dice[structure] for dice in side if structure in dice]
        return float(np.median(values)) if values else None

    return tuple(Agreement(name, *(median(side, name) for side in sides)) for name in STRUCTURES)


def near_duplicates(
    synthetic: Sequence[SliceRow], real: Sequence[SliceRow]
) -> tuple[tuple[NearDuplicate, ...], float]:
    """The synthetic slices that are near-duplicates of real ones, and the highest correlation of all."""
    greys = [hu_to_uint8(row.image) for row in real]
    small = np.concatenate([thumbnails(grey[None]) for grey in greys])
    duplicates, highest = [], -1.0
    for position, row in enumerate(synthetic):
        grey = hu_to_uint8(row.image)
        near = nearest(thumbnails(grey[None])[0], small, _NEIGHBOURS, min(grey.shape))
        sources = [
            index
            for index, each in enumerate(real)
            if (each.series_uid, each.slice_index) == (row.series_uid, row.slice_index)
        ]
        places = list(dict.fromkeys([*sources, *near.tolist()]))
        query = Query.of(grey, row.label)
        best, resemblance = query.resemblance(
            [query.whole(greys[index], real[index].label) for index in places]
        )
        highest = max(highest, resemblance.correlation)
        if resemblance.is_near_duplicate:
            match = real[places[best]]
            duplicates.append(
                NearDuplicate(
                    position, match.series_uid, match.slice_index, resemblance.correlation, resemblance.view
                )
            )
    return tuple(duplicates), highest

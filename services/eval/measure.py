"""The results on a set of synthetic slices, from what its parts gave."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.metrics.leakage import Patients
from lungforge.metrics.map_agreement import STRUCTURES
from lungforge.metrics.memorisation import Memorisation, measure_memorisation
from lungforge.metrics.near_duplicates import Resemblance
from lungforge.metrics.permutation import ScanPermutations, mean_shift_p_values
from lungforge.randomness import numpy_generator
from services.eval.copy_results import (
    DistanceHistogram,
    DistanceQuantiles,
    FalseAlarms,
    MemorisationResult,
    MemorisedPair,
    NearDuplicate,
    NearDuplicates,
)
from services.eval.records import Key, Match, MeasuredSlices
from services.eval.rounding import rounded
from services.eval.set_results import (
    ContrastSummary,
    DiceSummary,
    HounsfieldRow,
    HounsfieldSummary,
    MapAgreement,
    NoduleContrast,
    NotMeasured,
    StructureAgreement,
)

#: Near-duplicates that are listed.
_LISTED = 50
#: Pairs of a synthetic slice and the training slice nearest to it that are shown.
_WORST = 4
#: Bins of the histograms of distances.
_BINS = 30


def hounsfield_units(
    real: MeasuredSlices,
    synthetic: MeasuredSlices,
    sources: NDArray[np.float32] | None,
    permutations: ScanPermutations | None,
) -> tuple[HounsfieldRow, ...]:
    """A row a class: pixels, median and quartiles of HU, real and synthetic, and their difference.

    Args:
        real: The real slices that are compared with.
        synthetic: The set.
        sources: HU of each class in the source slice of each synthetic one, ``[M, classes]``, NaN where not
            available; None for patches.
        permutations: Of the scans of both; None with too few for a test.
    """
    p_values = np.full(classes.COUNT, np.nan)
    if permutations is not None:
        p_values = mean_shift_p_values(real.medians, synthetic.medians, permutations)

    def side(measured: MeasuredSlices, label: int) -> HounsfieldSummary:
        histogram = measured.fidelity.histogram
        lower, median, upper = (histogram.quantile(label, fraction) for fraction in (0.25, 0.5, 0.75))
        return HounsfieldSummary(histogram.pixels(label), median, lower, upper)

    def row(label: int, name: str) -> HounsfieldRow:
        one, other = side(real, label), side(synthetic, label)
        from_source = np.empty(0)
        if sources is not None:
            from_source = np.abs(synthetic.medians[:, label] - sources[:, label])
            from_source = from_source[np.isfinite(from_source)]
        return HounsfieldRow(
            class_name=name,
            real=one,
            synthetic=other,
            difference=None if one.median is None or other.median is None else other.median - one.median,
            from_source=rounded(float(from_source.mean())) if len(from_source) else None,
            p_value=None if np.isnan(p_values[label]) else float(p_values[label]),
        )

    return tuple(row(label, name) for label, name in enumerate(classes.NAMES))


def nodule_contrast(real: MeasuredSlices, synthetic: MeasuredSlices) -> NoduleContrast:
    """How much brighter nodules are than the lung around them, real and synthetic."""

    def side(measured: MeasuredSlices) -> ContrastSummary:
        values = measured.fidelity.contrasts
        if not values:
            return ContrastSummary(0, None, None, None)
        lower, median, upper = (rounded(value) for value in np.percentile(values, [25, 50, 75]).tolist())
        return ContrastSummary(len(values), median, lower, upper)

    return NoduleContrast(side(real), side(synthetic))


def map_agreement(real: MeasuredSlices, synthetic: MeasuredSlices) -> MapAgreement:
    """A row a structure: how its segmentation in the slices overlaps the map, real and synthetic."""

    def side(values: Sequence[float]) -> DiceSummary:
        if not values:
            return DiceSummary(0, None, None)
        low, median = (rounded(value) for value in np.quantile(values, [0.05, 0.5]).tolist())
        return DiceSummary(len(values), median, low)

    return MapAgreement(
        tuple(
            StructureAgreement(name, side(real.fidelity.dice[name]), side(synthetic.fidelity.dice[name]))
            for name in STRUCTURES
        )
    )


def near_duplicates(matches: Sequence[Match], real: Sequence[Resemblance]) -> NearDuplicates:
    """How many synthetic slices are near-duplicates, which, and how like real ones the others are.

    Args:
        matches: The real slice most like each synthetic one.
        real: How like slices of other patients real slices are.
    """
    duplicates = [match for match in matches if match.resemblance.is_near_duplicate]
    correlations = [match.resemblance.correlation for match in matches]
    thresholds = [match.resemblance.threshold for match in matches]
    return NearDuplicates(
        checked=len(matches),
        count=len(duplicates),
        lowest_threshold=rounded(min(thresholds)),
        highest_threshold=rounded(max(thresholds)),
        false_alarms=FalseAlarms(
            checked=len(real),
            count=sum(resemblance.is_near_duplicate for resemblance in real),
            highest_correlation=rounded(max(resemblance.correlation for resemblance in real)),
        )
        if real
        else None,
        median_correlation=rounded(float(np.median(correlations))),
        highest_correlation=rounded(max(correlations)),
        examples=tuple(
            NearDuplicate(
                sample_id=match.sample_id,
                series_uid=match.series_uid,
                slice_index=match.slice_index,
                is_source=match.is_source,
                texture_correlation=rounded(match.resemblance.correlation),
                threshold=rounded(match.resemblance.threshold),
                real_slice=match.resemblance.view,
            )
            for match in duplicates[:_LISTED]
        ),
    )


def memorisation(
    training: NDArray[np.float32],
    training_keys: Sequence[Key],
    synthetic: MeasuredSlices,
    sample_ids: Sequence[str],
    real: MeasuredSlices,
    patients: Patients,
    name: str,
    seed: int,
) -> MemorisationResult | NotMeasured:
    """How near synthetic slices are to the training slices, beside held-out real ones of other patients.

    Args:
        training: Features ``[T, D]`` of the slices that the generator was trained on.
        training_keys: Which these are.
        synthetic: The set.
        sample_ids: The name of each slice of the set.
        real: The real slices that are compared with; those of training patients are left out.
        patients: Which scans are of one patient.
        name: What the report calls the set; with the seed it decides the redrawn patients.
        seed: Of the job.
    """
    if not len(training):
        return NotMeasured("the slices that the generator was trained on are not available")
    trained = {patients.patient_of(series) for series, _ in training_keys}
    of_real = [patients.patient_of(series) for series, _ in real.keys]
    held_out = np.array([patient not in trained for patient in of_real])
    if not held_out.any():
        return NotMeasured("the generator saw the patient of every real slice that is compared with")
    measured = measure_memorisation(
        training,
        synthetic.features,
        [patients.patient_of(series) for series, _ in synthetic.keys],
        real.features[held_out],
        [patient for patient, keep in zip(of_real, held_out, strict=True) if keep],
        numpy_generator(seed, name, "memorisation"),
    )
    if measured is None:
        return NotMeasured("the held-out real slices equal slices that the generator was trained on")
    nearest = [training_keys[index] for index in measured.nearest.tolist()]
    return MemorisationResult(
        training_images=len(training),
        tail_share=rounded(measured.tail_share),
        tail_interval_95_percent=_rounded_interval(measured.tail_interval),
        tail_expected=rounded(measured.tail_expected),
        tail_distance=rounded(measured.tail_distance),
        worst=tuple(
            MemorisedPair(
                sample_id=sample_ids[index],
                series_uid=nearest[index][0],
                slice_index=nearest[index][1],
                is_source=nearest[index] == synthetic.keys[index],
                distance=rounded(float(measured.synthetic[index])),
                in_tail=bool(measured.synthetic[index] < measured.tail_distance),
            )
            for index in np.argsort(measured.synthetic, kind="stable")[:_WORST].tolist()
        ),
        ratio=rounded(measured.ratio),
        interval_95_percent=_rounded_interval(measured.interval),
        closer_than_5_percent=rounded(measured.closer_than_5_percent),
        nearest_is_source=sum(one == other for one, other in zip(nearest, synthetic.keys, strict=True)),
        synthetic=_quantiles(measured.synthetic),
        held_out=_quantiles(measured.held_out),
        histogram=_histogram(measured),
    )


def _rounded_interval(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (rounded(interval[0]), rounded(interval[1]))


def _quantiles(values: NDArray[np.float64]) -> DistanceQuantiles:
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    return DistanceQuantiles(len(values), *(rounded(value) for value in quantiles))


def _histogram(measured: Memorisation) -> DistanceHistogram:
    """Shares of both sets in bins of equal width, from 0 to the largest distance."""
    longest = max(measured.synthetic.max(), measured.held_out.max())
    edges = np.linspace(0.0, longest, _BINS + 1)

    def shares(values: NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(rounded(share) for share in (np.histogram(values, edges)[0] / len(values)).tolist())

    return DistanceHistogram(rounded(float(longest)), shares(measured.synthetic), shares(measured.held_out))

"""The radiomic distance of a set of synthetic slices, and which features moved."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.permutation import SIGNIFICANCE, ScanPermutations
from lungforge.metrics.radiomic_distance import (
    FEWEST_SLICES,
    FeatureShift,
    feature_shifts,
    radiomic_distances,
    radiomic_p_value,
    regions_in_both,
)
from lungforge.metrics.radiomics import Region, columns_of
from lungforge.metrics.real_baseline import compare_with_baseline
from lungforge.randomness import numpy_generator
from services.eval.records import MeasuredSlices
from services.eval.rounding import rounded, rounded_baseline
from services.eval.set_results import NotMeasured, RadiomicResult, RegionDistance

#: Features that are listed.
_LISTED: Final = 12
#: Without a test, a feature moved that differs by so many standard deviations.
_LARGE_SHIFT: Final = 1.0


def radiomic(
    name: str,
    real: MeasuredSlices,
    synthetic: MeasuredSlices,
    permutations: ScanPermutations | None,
    seed: int,
) -> RadiomicResult | NotMeasured:
    """The radiomic Fréchet distance with its baseline and its test, and the features that moved.

    Args:
        name: What the report calls the set; with the seed it decides the random halves.
        real: The real slices that are compared with.
        synthetic: The set.
        permutations: Of the scans of both; None with too few for a test.
        seed: Of the job.
    """
    regions = regions_in_both(real.radiomics, synthetic.radiomics)
    if not regions:
        return NotMeasured(
            f"fewer than {FEWEST_SLICES} slices of one of the sides show lungs, body or nodules large enough"
        )

    def distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
        return sum(radiomic_distances(first, second, regions, standard=real.radiomics).values())

    by_region = radiomic_distances(real.radiomics, synthetic.radiomics, regions)
    p_value = None
    if permutations is not None:
        p_value = radiomic_p_value(real.radiomics, synthetic.radiomics, regions, permutations)
    shifts = feature_shifts(real.radiomics, synthetic.radiomics, regions, permutations)
    return RadiomicResult(
        distance=rounded(sum(by_region.values())),
        real_images=len(real.radiomics),
        synthetic_images=len(synthetic.radiomics),
        features=sum(len(columns_of(region)) for region in regions),
        regions=tuple(
            RegionDistance(region, rounded(value), _showing(real, region), _showing(synthetic, region))
            for region, value in by_region.items()
        ),
        baseline=rounded_baseline(
            compare_with_baseline(
                real.radiomics,
                real.scans,
                synthetic.radiomics,
                distance,
                numpy_generator(seed, name, "radiomics"),
                fewest=FEWEST_SLICES,
            )
        ),
        p_value=p_value,
        permutations=0 if permutations is None else permutations.count,
        moved=tuple(_rounded(shift) for shift in shifts if _moved(shift))[:_LISTED],
    )


def _moved(shift: FeatureShift) -> bool:
    if shift.p_value is None:
        return abs(shift.shift) >= _LARGE_SHIFT
    return shift.p_value < SIGNIFICANCE


def _rounded(shift: FeatureShift) -> FeatureShift:
    return dataclasses.replace(
        shift,
        real_median=rounded(shift.real_median),
        synthetic_median=rounded(shift.synthetic_median),
        shift=rounded(shift.shift),
    )


def _showing(measured: MeasuredSlices, region: Region) -> int:
    """How many slices show a region."""
    return int(np.isfinite(measured.radiomics[:, columns_of(region)]).all(axis=1).sum())

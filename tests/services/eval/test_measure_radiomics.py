"""The radiomic distance as a result: what it says of real slices, of brighter ones, and of too few."""

import numpy as np
import pytest

from lungforge.metrics.permutation import permute_scans
from lungforge.metrics.radiomics import FEATURES, columns_of
from services.eval.measure_radiomics import radiomic
from services.eval.records import Fidelity, MeasuredSlices
from services.eval.set_results import NotMeasured, RadiomicResult


def slices(seed: int, count: int, *, nodules: int) -> MeasuredSlices:
    generator = np.random.default_rng(seed)
    features = (10 + generator.normal(size=(count, len(FEATURES)))).astype(np.float32)
    features[nodules:, columns_of("nodules")] = np.nan
    keys = tuple((f"{seed} {index // 2}", index) for index in range(count))
    return MeasuredSlices(
        np.zeros((count, 1), np.float32), keys, Fidelity.empty(), features, np.zeros((count, 6), np.float32)
    )


def measure(real: MeasuredSlices, synthetic: MeasuredSlices) -> RadiomicResult | NotMeasured:
    permutations = permute_scans(real.scans, synthetic.scans, np.random.default_rng(0), 199)
    return radiomic("set", real, synthetic, permutations, 0)


def test_slices_of_the_same_distribution_are_as_near_as_real_ones() -> None:
    result = measure(slices(0, 80, nodules=50), slices(1, 60, nodules=40))
    assert isinstance(result, RadiomicResult)
    assert result.distance == pytest.approx(sum(region.distance for region in result.regions), rel=1e-5)
    counts = [(region.region, region.real_slices, region.synthetic_slices) for region in result.regions]
    assert counts == [("lungs", 80, 60), ("body", 80, 60), ("nodules", 50, 40)]
    assert result.features == len(FEATURES)
    assert result.p_value is not None
    assert result.p_value > 0.05
    assert result.moved == ()
    assert result.baseline is not None
    assert result.baseline.images == 40
    assert result.baseline.synthetic_mean == pytest.approx(result.baseline.real_mean, rel=0.25)


def test_a_feature_that_moved_is_named() -> None:
    real, synthetic = slices(0, 80, nodules=50), slices(1, 60, nodules=40)
    median = [(feature.region, feature.name) for feature in FEATURES].index(("lungs", "median"))
    synthetic.radiomics[:, median] += 5
    result = measure(real, synthetic)
    assert isinstance(result, RadiomicResult)
    assert result.p_value == 0.005
    assert [(shift.region, shift.name) for shift in result.moved] == [("lungs", "median")]
    assert result.moved[0].shift == pytest.approx(5, rel=0.2)


def test_with_too_few_slices_or_scans_it_says_so() -> None:
    few = measure(slices(0, 3, nodules=3), slices(1, 60, nodules=40))
    assert isinstance(few, NotMeasured)
    assert "fewer than 4 slices" in few.why_not
    scans = measure(slices(0, 4, nodules=0), slices(1, 4, nodules=0))
    assert isinstance(scans, RadiomicResult)
    assert (scans.p_value, scans.permutations) == (None, 0)
    # Without a test only what differs by a standard deviation is named.
    assert all(abs(shift.shift) >= 1 for shift in scans.moved)

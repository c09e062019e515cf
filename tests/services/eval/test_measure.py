import dataclasses

import numpy as np
import pytest

from lungforge.ct import classes
from lungforge.metrics.extractors import Description
from lungforge.metrics.fidelity import ClassHistogram, class_medians
from lungforge.metrics.leakage import EACH_SCAN, Patients
from lungforge.metrics.near_duplicates import Resemblance
from lungforge.metrics.permutation import permute_scans
from lungforge.metrics.radiomics import FEATURES
from services.eval.copy_results import DistanceQuantiles, FalseAlarms, MemorisationResult, MemorisedPair
from services.eval.measure import hounsfield_units, map_agreement, memorisation, near_duplicates
from services.eval.measure_distances import network_distances
from services.eval.records import Fidelity, Match, MeasuredSlices
from services.eval.set_results import DiceSummary, NotMeasured


def measured(features, keys, **changes):
    nothing = np.full((len(features), len(FEATURES)), np.nan, np.float32)
    sound = MeasuredSlices(
        np.asarray(features, np.float32), tuple(keys), Fidelity.empty(), nothing, nothing[:, : classes.COUNT]
    )
    return dataclasses.replace(sound, **changes)


def with_dice(dice):
    fidelity = Fidelity(Fidelity.empty().histogram, (), dice)
    return measured(np.zeros((1, 1)), [("scan", 0)], fidelity=fidelity)


def test_agreement_gives_median_5th_percentile_and_how_many_slices_hold_the_structure():
    real = with_dice({"body": tuple(np.linspace(0.9, 1.0, 101)), "lungs": ()})
    synthetic = with_dice({"body": (0.5, 1.0, 0.75), "lungs": (0.25,)})
    body, lungs = map_agreement(real, synthetic).structures
    assert (body.structure, lungs.structure) == ("body", "lungs")
    assert body.real == DiceSummary(images=101, median=0.95, percentile_5=0.905)
    assert body.synthetic == DiceSummary(images=3, median=0.75, percentile_5=0.525)
    assert lungs.real == DiceSummary(images=0, median=None, percentile_5=None)
    assert lungs.synthetic == DiceSummary(images=1, median=0.25, percentile_5=0.25)


def test_near_duplicates_are_counted_and_listed():
    matches = [
        Match(f"sample {index}", "scan", index, True, Resemblance(correlation))
        for index, correlation in enumerate([0.99, 0.1, 0.3])
    ]
    results = near_duplicates(matches, [Resemblance(0.2), Resemblance(0.9)])
    assert (results.checked, results.count) == (3, 1)
    assert results.false_alarms == FalseAlarms(checked=2, count=1, highest_correlation=0.9)
    assert near_duplicates(matches, []).false_alarms is None
    assert [example.sample_id for example in results.examples] == ["sample 0"]
    assert results.median_correlation == pytest.approx(np.median([0.99, 0.1, 0.3]))


def test_thresholds_vary_by_the_slice() -> None:
    """A slice with few pixels away from borders is no near-duplicate where another one is."""
    matches = [
        Match(f"sample {index}", "scan", index, True, Resemblance(0.8, threshold=threshold))
        for index, threshold in enumerate([0.75, 0.92])
    ]
    results = near_duplicates(matches, [])
    assert (results.lowest_threshold, results.highest_threshold, results.count) == (0.75, 0.92, 1)
    assert [(one.sample_id, one.threshold) for one in results.examples] == [("sample 0", 0.75)]


TRAINING = np.array([[0.0], [100], [200]], np.float32)
TRAINING_KEYS = [("a", 0), ("a", 1), ("b_z007", 0)]


def memorised(synthetic, real, patients=EACH_SCAN):
    names = [f"sample {index}" for index in range(len(synthetic.keys))]
    return memorisation(TRAINING, TRAINING_KEYS, synthetic, names, real, patients, "set", 0)


def test_distances_of_synthetic_and_of_held_out_slices_to_the_training_slices():
    synthetic = measured([[1], [102], [203], [99]], [("a", 0), ("a", 0), ("b_z007", 0), ("a", 1)])
    # The real slice at 50.1 is of a training scan: its distance is no measure of what is new.
    real = measured([[10], [120], [230], [50.1]], [("c", 0), ("c", 1), ("d", 0), ("b_z012", 3)])
    results = memorised(synthetic, real)
    assert isinstance(results, MemorisationResult)
    assert results.training_images == 3
    assert results.synthetic.images == 4
    assert results.held_out == DistanceQuantiles(
        images=3,
        percentile_5=11.0,
        percentile_25=15.0,
        median=20.0,
        percentile_75=25.0,
        percentile_95=29.0,
    )
    assert results.synthetic.median == 1.5
    assert results.ratio == pytest.approx(1.5 / 20)
    assert results.closer_than_5_percent == 1.0
    # Real slices of other patients come no nearer than 10; all synthetic ones do.
    assert (results.tail_distance, results.tail_share, results.tail_expected) == (10, 1, 0.25)
    assert results.worst[:2] == (
        MemorisedPair("sample 0", "a", 0, True, 1.0, True),
        MemorisedPair("sample 3", "a", 1, True, 1.0, True),
    )
    # The second is nearest to slice 1 of its scan, and was generated from the map of slice 0.
    assert results.nearest_is_source == 3
    histogram = results.histogram
    assert histogram.longest == 30.0
    assert sum(histogram.synthetic) == pytest.approx(1)
    assert sum(histogram.held_out) == pytest.approx(1, rel=1e-5)
    assert histogram.held_out[-1] == pytest.approx(1 / 3, rel=1e-5)  # the largest belongs to the last bin


def test_other_scans_of_training_patients_are_no_measure_of_what_is_new():
    synthetic, real = measured([[1]], [("a", 0)]), measured([[10], [30]], [("c", 0), ("d", 0)])
    assert memorised(synthetic, real).held_out.images == 2
    of_one_patient = memorised(synthetic, real, Patients.of([("b", "c")]))
    assert of_one_patient.held_out.images == 1
    assert of_one_patient.tail_distance == 30


def test_without_training_or_held_out_slices_the_cause_is_stated():
    one = measured([[1]], [("a", 0)])
    nothing = memorisation(np.empty((0, 1), np.float32), [], one, ["s"], one, EACH_SCAN, "set", 0)
    assert nothing == NotMeasured("the slices that the generator was trained on are not available")
    seen, equal = memorised(one, measured([[3]], [("b", 0)])), memorised(one, measured([[100]], [("c", 0)]))
    assert isinstance(seen, NotMeasured)
    assert "the generator saw the patient of every real slice" in seen.why_not
    assert isinstance(equal, NotMeasured)
    assert "equal slices" in equal.why_not


def with_classes(seed, count, shift=0):
    """Slices of one pixel row, two a scan: body about 40 HU, left lung about -850, changed by ``shift``."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.repeat(np.uint8([classes.BODY, classes.LEFT_LUNG]), 8), (count, 1, 1))
    hu = np.where(labels == classes.BODY, 40, -850 + shift) + generator.integers(-5, 6, size=labels.shape)
    hu = hu.astype(np.int16)
    keys = [(f"{seed} {index // 2}", index) for index in range(count)]
    fidelity = Fidelity(ClassHistogram.of(hu, labels), (), Fidelity.empty().dice)
    return measured(np.zeros((count, 1)), keys, fidelity=fidelity, medians=class_medians(hu, labels))


def test_hounsfield_units_of_each_class_differ_by_so_many_with_a_p_value():
    real, synthetic = with_classes(0, 20), with_classes(1, 16, shift=30)
    sources = synthetic.medians + np.float32(4)
    sources[:8] -= np.float32(12)
    permutations = permute_scans(real.scans, synthetic.scans, np.random.default_rng(0))
    rows = {row.class_name: row for row in hounsfield_units(real, synthetic, sources, permutations)}
    lung, body, trachea = (rows[name] for name in ("left lung", "body", "trachea"))
    assert lung.difference == lung.synthetic.median - lung.real.median
    assert lung.difference == pytest.approx(30, abs=3)
    assert lung.from_source == 6.0  # 8 below in half of the slices, 4 above in the others
    assert lung.p_value < 0.01
    assert abs(body.difference) <= 3
    assert body.p_value > 0.05
    assert (trachea.difference, trachea.from_source, trachea.p_value) == (None, None, None)


def test_without_sources_or_a_test_the_difference_remains():
    rows = hounsfield_units(with_classes(0, 4), with_classes(1, 4, shift=30), None, None)
    (lung,) = (row for row in rows if row.class_name == "left lung")
    assert lung.difference == pytest.approx(30, abs=5)
    assert (lung.from_source, lung.p_value) == (None, None)


def test_kid_has_a_p_value_and_the_distance_no_bias_where_images_suffice(monkeypatch):
    description = Description("network", "Fréchet distance", 3, "grey", "none", "0" * 64)
    generator = np.random.default_rng(0)
    near, far = (generator.normal(size=(60, 3)) + shift for shift in (0, 3))
    real, synthetic = (
        measured(features, [(f"{name} {index // 3}", index) for index in range(60)])
        for name, features in (("real", near), ("synthetic", far))
    )
    permutations = permute_scans(real.scans, synthetic.scans, np.random.default_rng(0))
    results = network_distances("set", real, synthetic, description, permutations, 0)
    assert (results.kid.p_value, results.kid.permutations) == (0.001, 999)
    assert results.frechet.without_bias == pytest.approx(27, rel=0.2)
    # Of many images some are tested; the scans that are left decide.
    monkeypatch.setattr("services.eval.measure_distances._KID_IMAGES", 40)
    assert network_distances("set", real, synthetic, description, permutations, 0).kid.p_value == 0.001
    none = network_distances("set", real, synthetic, description, None, 0).kid
    assert (none.p_value, none.permutations) == (None, 0)

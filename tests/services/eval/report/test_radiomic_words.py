import pytest

from lungforge.metrics.radiomic_distance import FeatureShift
from services.eval.report.radiomic_words import feature_value, hounsfield_words, moved_words, shift_words
from services.eval.set_results import HounsfieldRow, HounsfieldSummary


def shift(name, unit, real, synthetic, region="lungs"):
    return FeatureShift(name, region, unit, real, synthetic, 2.0, 0.001)


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (shift("median", "HU", -850.2, -660.1), "lungs: median +190 HU"),
        (shift("noise (20th percentile)", "times", 10.0, 30.0), "lungs: noise 3.0 times as large"),
        (shift("roughness", "times", 10.0, 12.0), "lungs: roughness +20 %"),
        (shift("roughness", "times", 10.0, 4.0), "lungs: roughness −60 %"),
        (shift("roughness", "times", 0.0, 4.0), "lungs: roughness 4 instead of 0"),
        (shift("share of vessels", "share", 0.053, 0.021), "lungs: share of vessels 2.1 % instead of 5.3 %"),
        (shift("skewness", "plain", 1.234, -0.5), "lungs: skewness −0.5 instead of 1.23"),
    ],
)
def test_a_shift_in_words(moved, words):
    assert shift_words(moved) == words


def test_of_several_shifts_one_of_each_kind_and_region_is_named():
    moved = [
        shift("median", "HU", -850, -660),
        shift("90th percentile", "HU", -700, -510),
        shift("median", "HU", 40, 60, "body"),
        shift("roughness", "times", 1, 2),
        shift("entropy", "plain", 1, 2),
    ]
    assert moved_words(moved) == (
        "lungs: median +190 HU; body: median +20 HU; lungs: roughness 2.0 times as large"
    )
    assert moved_words([]) == ""


def test_values_in_tables():
    assert [feature_value(-850.4, "HU"), feature_value(0.0213, "share"), feature_value(-1.2345, "plain")] == [
        "−850",
        "2.1 %",
        "−1.23",
    ]


def row(name, difference, p_value):
    nothing = HounsfieldSummary(0, None, None, None)
    return HounsfieldRow(name, nothing, nothing, difference, None, p_value)


def test_hounsfield_units_name_what_differs_by_more_than_chance():
    rows = [
        row("body", 12, 0.04),
        row("left lung", -190, 0.001),
        row("nodule", 90, 0.3),
        row("trachea", None, None),
    ]
    assert hounsfield_words(rows) == (
        "left lung −190 HU, body +12 HU; the other classes differ by no more than chance"
    )
    assert hounsfield_words(rows[2:]) == "the medians of all classes agree as far as these scans can tell"
    # Without a test every difference is stated.
    assert hounsfield_words([row("body", 12, None)]) == "body +12 HU"

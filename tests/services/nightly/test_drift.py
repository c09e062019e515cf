"""The rule in figures: mean of the last good nights and three spreads."""

import dataclasses

import pytest

from services.nightly.drift import METRICS, band_of, reasons_of

RADIOMIC, HOUNSFIELD_UNITS, KID, FRECHET, NEAR_DUPLICATES, MEMORISED = METRICS


def test_the_band_is_mean_and_standard_deviation(make_night):
    nights = [make_night(day, value) for day, value in enumerate([10.0, 12.0, 9.0, 13.0], 1)]
    band = band_of(nights, "s", FRECHET)
    assert band is not None
    assert (band.mean, band.nights) == (11.0, 4)
    assert band.spread == pytest.approx(1.8257419)  # of a sample: sqrt(10 / 3), not sqrt(10 / 4)
    assert band.limit == pytest.approx(16.4772256)
    assert band_of(nights[:3], "s", FRECHET) is None


def test_only_the_last_fourteen_good_nights_of_the_same_settings_count(make_night):
    good = [make_night(day, float(day)) for day in range(1, 21)]
    others = [
        make_night(21, 500.0, settings="other"),
        make_night(22, 500.0, status="worse"),
        make_night(23, status="failed"),
        make_night(24, None),
    ]
    band = band_of([*good, *others], "s", FRECHET)
    assert band is not None
    assert (band.mean, band.nights) == (13.5, 14)  # 7 to 20


@pytest.mark.parametrize(
    ("metric", "changes", "spread"),
    [
        (FRECHET, {"frechet": 10.0, "frechet_spread": 0.5}, 0.5),  # what the choice of images does
        (FRECHET, {"frechet": 10.0, "frechet_spread": 0.0}, 0.1),  # one in a hundred of the mean
        (KID, {"kid": -0.02, "kid_spread": 0.0}, 0.0002),
        (NEAR_DUPLICATES, {"near_duplicates": 0}, 0.3),
        (RADIOMIC, {"radiomic": 2.0, "radiomic_spread": 0.5}, 0.5),
        (HOUNSFIELD_UNITS, {"hu_difference": 40.0}, 5.0),  # three of them are 15 HU, still good
        (MEMORISED, {"memorised": 0.0, "memorised_spread": 0.0}, 0.01),
        (MEMORISED, {"memorised": 0.1, "memorised_spread": 0.03}, 0.03),
        (MEMORISED, {"memorised": 0.1, "memorised_spread": None}, 0.01),
    ],
)
def test_equal_nights_have_a_band_all_the_same(make_night, metric, changes, spread):
    band = band_of([make_night(day, **changes) for day in range(1, 8)], "s", metric)
    assert band is not None
    assert band.spread == pytest.approx(spread)


def test_the_same_metrics_again_are_no_drift(make_night):
    """The mean of equal values may differ from them by rounding."""
    nights = [make_night(day, 0.1, frechet_spread=0.0, kid=1e-7, kid_spread=0.0) for day in range(1, 30)]
    for index, night in enumerate(nights):
        assert reasons_of(night, nights[:index]) == []


def test_a_worse_night_names_metric_value_band_and_what_changed(make_night):
    before = [make_night(day) for day in range(1, 5)]
    night = make_night(6, 10.31, model_sha256="c" * 64, code_version="0.2.0")
    assert reasons_of(night, before) == [
        "Fréchet distance 10.31 is above 10.3, 10 + 3 × 0.1 of 4 nights",
        "changed since 2026-03-04: model, code",
    ]
    assert reasons_of(dataclasses.replace(night, frechet=10.29), before) == []
    assert reasons_of(dataclasses.replace(night, frechet=1.0), before) == []
    assert reasons_of(night, before[:3]) == []
    assert reasons_of(dataclasses.replace(night, settings="other"), before) == []


def test_one_near_duplicate_where_there_was_none_is_worse(make_night):
    before = [make_night(day) for day in range(1, 5)]
    reasons = reasons_of(make_night(5, near_duplicates=1), before)
    assert reasons[0] == "Near-duplicates 1 is above 0.9, 0 + 3 × 0.3 of 4 nights"
    assert reasons[1].startswith("model, real slices and code are those of 2026-03-04")


def test_each_metric_that_left_its_band_is_named(make_night):
    before = [make_night(day) for day in range(1, 5)]
    reasons = reasons_of(make_night(5, 11.0, kid=0.06), before)
    assert [reason.split(" ")[0] for reason in reasons[:2]] == ["KID", "Fréchet"]


def test_a_night_without_a_metric_is_not_judged_by_it(make_night):
    before = [make_night(day) for day in range(1, 5)]
    assert reasons_of(make_night(5, None), before) == []


def test_slices_that_became_brighter_are_worse(make_night):
    before = [make_night(day) for day in range(1, 5)]
    night = make_night(5, hu_difference=20.0, radiomic=3.4)
    assert reasons_of(night, before)[0] == "Hounsfield units 20 is above 19, 4 + 3 × 5 of 4 nights"
    assert len(reasons_of(night, before)) == 2
    assert reasons_of(make_night(5, hu_difference=19.0), before) == []

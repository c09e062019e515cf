import dataclasses

import numpy as np
import pytest

from lungforge.ct import classes
from services.eval.downstream.results import Difference
from services.eval.records import SliceImages
from services.eval.report.headline import headline_of
from services.eval.report.render import SetImages, render, upright
from services.eval.set_results import HounsfieldRow, HounsfieldSummary, KidResult, NotMeasured
from tests.services.reports import (
    RADIOMIC,
    arm_result,
    baseline,
    downstream_results,
    memorisation,
    report,
    set_results,
    task_result,
)


def kid(p_value):
    return KidResult("KID", 0.1, 0.1, 100, 20, None, p_value, 999)


def radiomic(ratio):
    return dataclasses.replace(RADIOMIC, baseline=baseline(ratio, real=1.0), moved=())


def hounsfield(**differences):
    summary = HounsfieldSummary(100, 0, 0, 0)
    return tuple(
        HounsfieldRow(name.replace("_", " "), summary, summary, difference, None, None)
        for name, difference in differences.items()
    )


def good(**changes):
    """A set as good as real slices."""
    sound = {"radiomic": radiomic(1.1), "kid": kid(0.3), "hounsfield_units": hounsfield(body=3)}
    return set_results(**(sound | changes))


def chip(results, name, downstream=None):
    return next(one for one in headline_of(results, 0, downstream).chips if one.name == name)


def test_five_chips_and_a_sentence_of_a_good_set():
    headline = headline_of(good(), 0, None)
    assert [(one.name, one.judgement) for one in headline.chips] == [
        ("Realism", "good"),
        ("Hounsfield units", "good"),
        ("Copies", "good"),
        ("Memorised", "good"),
        ("Helps", "not measured"),
    ]
    assert headline.sentence == "As good as real slices in everything that was measured."


@pytest.mark.parametrize(
    ("ratio", "p_value", "judgement"),
    [(1.2, 0.05, "good"), (1.2, None, "good"), (1.2, 0.04, "fair"), (1.3, 0.5, "fair"), (3.1, 0.5, "poor")],
)
def test_realism_is_the_radiomic_distance_unless_the_network_sees_a_difference(ratio, p_value, judgement):
    one = chip(good(radiomic=radiomic(ratio), kid=kid(p_value)), "Realism")
    assert one.judgement == judgement
    assert f"{ratio:.2g} x real-vs-real" in one.value


@pytest.mark.parametrize(
    ("ratio", "p_value", "judgement"),
    [(1.5, 0.05, "good"), (1.6, 0.5, "fair"), (1.5, 0.04, "fair"), (1.5, None, "fair")],
)
def test_a_little_farther_is_good_where_the_test_shows_no_difference(ratio, p_value, judgement):
    one = good(radiomic=dataclasses.replace(radiomic(ratio), p_value=p_value), kid=kid(0.5))
    assert chip(one, "Realism").judgement == judgement


def test_without_a_baseline_realism_is_not_measured():
    for missing in (NotMeasured("too few"), dataclasses.replace(RADIOMIC, baseline=None)):
        assert chip(good(radiomic=missing), "Realism").judgement == "not measured"


@pytest.mark.parametrize(
    ("differences", "judgement", "value"),
    [
        ({"body": 15, "left_lung": -4}, "good", "body +15 HU"),
        ({"body": 15, "left_lung": -50}, "fair", "left lung −50 HU"),
        ({"right_lung": 200, "body": -51}, "poor", "right lung +200 HU"),
        # A handful of pixels, whose median says little.
        ({"body": 0, "nodule": 300}, "good", "no difference"),
        ({"body": None}, "not measured", "no class is in both sets"),
    ],
)
def test_hounsfield_units_are_judged_by_the_worst_of_the_large_classes(differences, judgement, value):
    one = chip(good(hounsfield_units=hounsfield(**differences)), "Hounsfield units")
    assert (one.judgement, one.value) == (judgement, value)


def test_one_near_duplicate_makes_a_set_unusable():
    headline = headline_of(good(near_duplicates=1), 0, None)
    assert headline.sentence.startswith("Not usable: 1 of 40 slices are near-duplicates")
    assert headline.chips[2].judgement == "poor"


def test_memorisation_is_poor_where_chance_does_not_explain_the_tail():
    assert chip(good(memorisation=memorisation()), "Memorised").judgement == "good"
    worse = memorisation(tail_share=0.1, tail_interval_95_percent=(0.011, 0.2))
    one = chip(good(memorisation=worse), "Memorised")
    assert one.judgement == "poor"
    assert one.value == "10 % nearer to a training slice than real ones are (1.1 % to 20 %; 1 % by chance)"
    unknown = memorisation(tail_interval_95_percent=None)
    assert chip(good(memorisation=unknown), "Memorised").judgement == "not measured"


def helped(classic, duplicates):
    """An arm of the set with these intervals of its differences, as low and high."""
    differences = (
        Difference("classic", sum(classic) / 2, *classic, 1000),
        Difference("duplicates", sum(duplicates) / 2, *duplicates, 1000),
    )
    return downstream_results(task_result(arm_result("set0-1x", *differences, synthetic=0)))


@pytest.mark.parametrize(
    ("classic", "duplicates", "judgement", "value"),
    [
        ((0.01, 0.03), (0.02, 0.04), "good", "classification: gain (+0.020)"),
        # As good as more copies of real slices are: nothing is gained.
        ((0.01, 0.03), (-0.02, 0.04), "fair", "classification: no gain shown (+0.020)"),
        ((-0.03, -0.01), (-0.02, 0.04), "poor", "classification: loss (−0.020)"),
    ],
)
def test_synthetic_slices_help_if_they_give_more_than_what_is_free(classic, duplicates, judgement, value):
    one = chip(good(), "Helps", helped(classic, duplicates))
    assert (one.judgement, one.value) == (judgement, value)


def test_another_sets_arms_say_nothing_about_this_one():
    trained = downstream_results(task_result(arm_result("set1-1x", synthetic=1)))
    assert chip(good(), "Helps", trained).judgement == "not measured"


def test_the_sentence_names_what_is_poor_and_what_moved():
    headline = headline_of(set_results(hounsfield_units=hounsfield(body=60), kid=kid(0.01)), 0, None)
    assert headline.sentence == "Poor in Hounsfield units (lungs: median +190 HU)."


def slice_images(name, lung_rows):
    label = np.zeros((16, 16), np.uint8)
    label[:lung_rows] = 2
    grey = np.full((16, 16), 90, np.uint8)
    return SliceImages(name, ("scan", 3), label, grey, grey)


def test_the_slices_with_the_most_lung_stand_on_top_in_their_order():
    shown = SetImages(tuple(slice_images(str(rows), rows) for rows in (3, 0, 9, 5, 1, 7)), (), (), ())
    assert [one.sample_id for one in shown.triples] == ["3", "9", "5", "7"]
    assert [one.sample_id for one in shown.others] == ["0", "1"]


def test_slices_are_shown_upright_with_the_right_lung_on_the_left():
    label = np.zeros((8, 8), np.uint8)
    label[2, 1:3], label[2:4, 5:7] = classes.RIGHT_LUNG, classes.LEFT_LUNG
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    as_it_is = SliceImages("a", ("scan", 3), label, None, grey)
    assert upright(as_it_is) is as_it_is
    turned = upright(SliceImages("a", ("scan", 3), label[::-1, ::-1], grey, grey[::-1, ::-1]))
    assert np.array_equal(turned.label, label)
    assert np.array_equal(turned.synthetic, grey)
    assert np.array_equal(turned.real, grey[::-1, ::-1])
    # With one lung, nothing is known of the sides.
    one = SliceImages("a", ("scan", 3), np.where(label == classes.LEFT_LUNG, 0, label), grey, grey)
    assert upright(one) is one


def page(origin):
    whole = report(set_results())
    real = dataclasses.replace(whole.real, origin=origin)
    shown = SetImages((slice_images("a", 4),), (), (), ())
    return render(dataclasses.replace(whole, real=real), [shown]).decode()


def test_phantoms_are_called_phantoms_everywhere_a_reader_looks():
    text = page("phantoms")
    assert "<h1>Synthetic slices compared with phantoms</h1>" in text
    assert "phantom vs phantom" in text
    assert 'alt="Phantom slice 3 of scan"' in text
    assert " real " not in text
    assert "say nothing about CT" in text
    # What has its colour from its class keeps it.
    assert 'class="bar real"' in text


def test_scans_are_called_real():
    text = page("scans")
    assert "<h1>Synthetic slices compared with real chest CT</h1>" in text
    assert "phantom" not in text

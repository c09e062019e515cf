import dataclasses

import pytest

from services.eval.downstream.results import Difference
from services.eval.report.verdict import memorisation_sentence, verdict_of, warnings_of
from services.eval.set_results import FrechetResult, NotMeasured
from tests.services.reports import (
    RADIOMIC,
    arm_result,
    baseline,
    downstream_results,
    memorisation,
    set_results,
    task_result,
)


def results(*, synthetic, near_duplicates=0, name="one"):
    frechet = FrechetResult("Fréchet distance", 12.0, 60, 40, baseline(synthetic), None)
    return set_results(name, near_duplicates=near_duplicates, frechet=frechet)


@pytest.mark.parametrize(
    ("synthetic", "words"), [(25.0, "2.5 times as far"), (11.9, "as near to real"), (9.0, "as near to real")]
)
def test_verdict_judges_the_distance_by_the_baseline(synthetic, words):
    assert words in verdict_of([results(synthetic=synthetic)])[1]


@pytest.mark.parametrize(
    ("radiomic", "kid", "sentence"),
    [
        (
            0.002,
            0.4,
            "“one” differs from real slices of other scans by more than chance (p = 0.002 by radiomic "
            "distance, 0.4 by KID); the radiomic distance is 2 times its real-vs-real baseline.",
        ),
        (0.05, 0.049, "“one” differs"),
        (0.05, 0.05, "No test tells “one” from real slices of other scans (p = 0.05"),
        (None, 0.5, "Too few slices or scans to test whether “one” differs"),
        (0.5, None, "Too few slices or scans"),
    ],
)
def test_the_tests_of_what_sees_grey_levels_come_first(radiomic, kid, sentence):
    sound = set_results()
    tested = dataclasses.replace(
        sound,
        radiomic=dataclasses.replace(RADIOMIC, p_value=radiomic),
        kid=dataclasses.replace(sound.kid, p_value=kid),
    )
    assert verdict_of([tested])[0].startswith(sentence)


def test_verdict_begins_with_near_duplicates_and_gives_no_result_on_them():
    sentences = verdict_of([results(synthetic=25.0), results(synthetic=3.0, near_duplicates=4, name="two")])
    assert sentences[0].startswith("4 of 40 slices of “two” are near-duplicates")
    assert len(sentences) == 6
    assert not any("“two”" in sentence for sentence in sentences[1:])


def test_the_gain_on_the_tasks_comes_first_unless_there_are_near_duplicates():
    sets = [results(synthetic=25.0), results(synthetic=3.0, near_duplicates=4, name="two")]
    trained = downstream_results(
        task_result(
            arm_result("classic", Difference("real", 0.5, 0.4, 0.6, 1000)),
            arm_result(
                "set0-1x",
                Difference("classic", 0.1, 0.05, 0.2, 1000),
                Difference("duplicates", 0.2, 0.001, 0.3, 1000),
                synthetic=0,
            ),
            arm_result("set0-only", Difference("classic", -0.5, -0.6, -0.4, 1000), synthetic=0),
            arm_result(
                "set1-1x",
                Difference("classic", -0.1, -0.2, -0.0006, 1000),
                Difference("duplicates", 0.0, -0.1, 0.1, 1000),
                synthetic=1,
            ),
        )
    )
    sentences = verdict_of(sets, trained)
    assert sentences[1:3] == [
        "Classification: adding 1 x “one” to the real slices helps (difference in balanced accuracy, "
        "with 95 % interval: +0.100 to real with classic augmentation (+0.050 to +0.200), "
        "+0.200 to copies of real (+0.001 to +0.300)).",
        "Classification: adding 1 x “two” to the real slices harms (difference in balanced accuracy, "
        "with 95 % interval: −0.100 to real with classic augmentation (−0.200 to −0.001), "
        "+0.000 to copies of real (−0.100 to +0.100)).",
    ]
    assert "near-duplicates" in sentences[0]
    assert [sentences[0], *sentences[3:]] == verdict_of(sets)


def test_arms_without_an_interval_are_not_judged():
    trained = downstream_results(
        task_result(
            arm_result(
                "set0-1x",
                Difference("classic", 0.1, None, None, 0),
                Difference("duplicates", 0.1, 0.05, 0.2, 1000),
                synthetic=0,
            )
        )
    )
    assert verdict_of([results(synthetic=25.0)], trained)[0] == (
        "Classification: adding 1 x “one” to the real slices cannot be judged with these scans and networks."
    )


def test_networks_that_learned_nothing_have_no_verdict_on_any_set():
    trained = downstream_results(
        task_result(arm_result("set0-1x", synthetic=0), not_measured="the networks learned nothing: a reason")
    )
    sentences = verdict_of([results(synthetic=25.0)], trained)
    assert sentences[0] == "Classification: not measured: the networks learned nothing: a reason."
    assert not any("adding" in sentence for sentence in sentences)


def test_verdict_without_a_baseline_judges_nothing():
    alone = set_results(frechet=FrechetResult("Fréchet distance", 12.0, 60, 40, None, None))
    assert "cannot be judged" in verdict_of([alone])[1]
    assert any("no real-vs-real baseline" in warning for warning in warnings_of(alone))


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (
            (0.5, 0.9),
            "nearer to its training slices than real slices of other scans are, a sign of memorisation",
        ),
        ((0.9, 1.1), "shows no sign of memorisation: its median distance"),
        ((1.2, 1.5), "so distance alone does not rule out memorisation: its median"),
        (None, "cannot be judged with slices of one scan"),
    ],
)
def test_the_sentence_on_memorisation_says_what_the_interval_supports(interval, words):
    sentence = memorisation_sentence(
        "set", memorisation(ratio=0.95, interval_95_percent=interval, nearest_is_source=7)
    )
    assert ("for 7 of 40 slices the nearest is the one" in sentence) == (interval is not None)
    assert words in sentence
    assert "0.95" in sentence
    assert "not measured: no slices." in memorisation_sentence("set", NotMeasured("no slices"))

import numpy as np
import pytest

from lungforge.metrics.twins import Resemblance
from services.eval.measure import plus_minus, twins_document, verdict_of
from services.eval.parts import Match


def numbers(*, synthetic, real=10.0, spread=1.0, near_copies=0, name="one"):
    floor = {"images": 30, "real_mean": real, "real_spread": spread}
    floor |= {"synthetic_mean": synthetic, "synthetic_spread": 1.0, "repeats": 10}
    twins = {"near_copies": near_copies, "checked": 40, "highest_correlation": 0.2}
    return {"name": name, "frechet": {"at_equal_n": floor}, "twins": twins}


@pytest.mark.parametrize(
    ("synthetic", "words"), [(25.0, "2.5 times as far"), (11.9, "as near to real"), (9.0, "as near to real")]
)
def test_verdict_judges_the_distance_by_the_floor(synthetic, words):
    assert words in verdict_of([numbers(synthetic=synthetic)])[0]


def test_verdict_begins_with_near_copies_and_gives_no_number_on_them():
    sentences = verdict_of([numbers(synthetic=25.0), numbers(synthetic=3.0, near_copies=4, name="two")])
    assert sentences[0].startswith("4 of 40 slices of “two” are near-copies")
    assert len(sentences) == 3
    assert not any("two" in sentence for sentence in sentences[1:])


def test_verdict_without_a_floor_judges_nothing():
    alone = numbers(synthetic=1.0)
    alone["frechet"]["at_equal_n"] = None
    assert "cannot be judged" in verdict_of([alone])[0]


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (238.46, 11.2, "238 ± 11"),
        (0.001145, 0.0074, "0.0011 ± 0.0074"),
        (-0.5, 0.25, "−0.50 ± 0.25"),
        (3, 0, "3 ± 0"),
    ],
)
def test_plus_minus_ends_both_at_the_same_place(mean, spread, text):
    assert plus_minus(mean, spread) == text


def test_twins_are_counted_and_named():
    matches = [
        Match(f"sample {index}", "scan", index, True, Resemblance(1.0, correlation, "as it is"))
        for index, correlation in enumerate([0.99, 0.1, 0.3])
    ]
    document = twins_document(matches)
    assert (document["checked"], document["near_copies"]) == (3, 1)
    assert document["named"][0]["sample_id"] == "sample 0"
    assert document["median_correlation"] == pytest.approx(np.median([0.99, 0.1, 0.3]))

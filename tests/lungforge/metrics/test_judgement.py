"""The word of a result, on both sides of each limit."""

import pytest

from lungforge.metrics.judgement import judge_hounsfield_units, judge_realism


@pytest.mark.parametrize(
    ("ratio", "p_value", "kid_p_value", "word"),
    [
        (1.2, 0.001, None, "good"),
        (1.21, 0.001, None, "fair"),
        (1.21, None, None, "fair"),  # nothing says that it is chance
        (1.5, 0.05, 0.05, "good"),
        (1.51, 0.5, None, "fair"),
        (3.0, 0.001, None, "fair"),
        (3.01, 0.001, None, "poor"),
        (3.01, None, 0.5, "poor"),
        (9.0, 0.06, None, "fair"),  # no more than chance
        (0.9, 0.7, 0.049, "fair"),  # the network sees a difference
        (0.9, 0.7, 0.05, "good"),
    ],
)
def test_realism(ratio: float, p_value: float | None, kid_p_value: float | None, word: str) -> None:
    assert judge_realism(ratio, p_value, kid_p_value) == word


@pytest.mark.parametrize(
    ("difference", "word"), [(0, "good"), (-15, "good"), (16, "fair"), (-50, "fair"), (51, "poor")]
)
def test_hounsfield_units(difference: float, word: str) -> None:
    assert judge_hounsfield_units(difference) == word

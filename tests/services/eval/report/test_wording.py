import dataclasses

import pytest

from services.eval.report.wording import (
    plus_minus,
    signed,
    significant,
    subsets_words,
    threshold_words,
)
from tests.services.reports import set_results


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (238.46, 11.2, "238 ± 11"),
        (0.001145, 0.0074, "0.0011 ± 0.0074"),
        (-0.5, 0.25, "−0.50 ± 0.25"),
        (3, 0, "3 ± 0"),
    ],
)
def test_plus_minus_ends_both_at_the_same_decimal(mean, spread, text):
    assert plus_minus(mean, spread) == text


def test_values_for_people():
    assert [significant(value) for value in (None, 0, -0.00123456, 12345.6)] == [
        "–", "0", "\N{MINUS SIGN}0.001235", "1.235e+04"
    ]  # fmt: skip
    assert significant(0.98765, 2) == "0.99"


def test_a_difference_that_rounds_to_zero_has_no_minus_sign():
    assert [signed(value) for value in (0.1234, -0.0006, -0.0004)] == ["+0.123", "−0.001", "+0.000"]


def test_subsets_in_few_words() -> None:
    assert subsets_words(None) == "all subsets"
    assert subsets_words([7]) == "subset 7"
    assert subsets_words([9, 8]) == "subsets 8, 9"
    assert subsets_words([0, 1, 2, 4, 6, 7, 8, 9]) == "subsets 0–2, 4, 6–9"


def test_one_threshold_or_the_lowest_and_the_highest() -> None:
    one = set_results().near_duplicates
    assert threshold_words(one) == "0.75"
    assert threshold_words(dataclasses.replace(one, highest_threshold=0.923)) == "0.75 to 0.92"

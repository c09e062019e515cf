"""What a distance and a difference of Hounsfield units come to, in a word, for reports and for Python."""

from typing import Final, Literal, TypeAlias

from lungforge.ct import classes
from lungforge.metrics.permutation import SIGNIFICANCE

Judgement: TypeAlias = Literal["good", "fair", "poor"]

#: The classes that are judged by HU: those with thousands of pixels in every slice.
JUDGED_CLASSES: Final = (classes.BACKGROUND, classes.BODY, classes.LEFT_LUNG, classes.RIGHT_LUNG)
#: A radiomic distance up to so many times the real-vs-real baseline is good, or fair.
GOOD_RATIO: Final = 1.2
FAIR_RATIO: Final = 3.0
#: And good up to this one, where its test shows no difference: with 50 real slices a side, one set in five is
#: more than 1.2 times as far by chance.
GOOD_RATIO_BY_TEST: Final = 1.5
#: So many HU between the medians of a class are good, or fair.
GOOD_HU: Final = 15
FAIR_HU: Final = 50


def judge_realism(ratio: float, p_value: float | None, kid_p_value: float | None) -> Judgement:
    """Judge how real a set looks.

    Few slices make the ratio vary: what the test of the distance explains by chance is never poor.

    Args:
        ratio: Radiomic distance over its real-vs-real baseline, at equal image counts.
        p_value: Of the radiomic distance; None where it was not tested.
        kid_p_value: Of the kernel inception distance, whose test keeps a set from being good; None where it
            was not tested.
    """
    by_chance = p_value is not None and p_value >= SIGNIFICANCE
    differs = kid_p_value is not None and kid_p_value < SIGNIFICANCE
    if ratio > FAIR_RATIO and not by_chance:
        return "poor"
    near = ratio <= (GOOD_RATIO_BY_TEST if by_chance else GOOD_RATIO)
    return "good" if near and not differs else "fair"


def judge_hounsfield_units(difference: float) -> Judgement:
    """Judge the largest difference between the medians of a class, in HU."""
    if abs(difference) <= GOOD_HU:
        return "good"
    return "fair" if abs(difference) <= FAIR_HU else "poor"

"""The results on a set of synthetic slices at a glance: a sentence, and a few chips with a number and a word."""

from collections.abc import Sequence
from typing import Final

from services.eval.downstream.results import DownstreamResults
from services.eval.report.wording import signed_hu
from services.eval.results import Chip, Headline, Judgement, SetResults
from services.eval.set_results import NotMeasured

#: A radiomic distance up to so many times the real-vs-real baseline is good, or fair.
GOOD_RATIO, FAIR_RATIO = 1.2, 3.0
#: So many HU between the medians of a class are good, or fair. A lung window is 1,500 HU wide.
GOOD_HU, FAIR_HU = 15.0, 50.0
#: The classes that are judged by HU: those with thousands of pixels in every slice.
_JUDGED: Final = ("background", "body", "left lung", "right lung")
_RANK: Final[dict[Judgement, int]] = {"poor": 0, "fair": 1, "good": 2, "not measured": 3}


def headline_of(results: SetResults, index: int, downstream: DownstreamResults | None) -> Headline:
    """The headline of a set.

    Args:
        results: On the set.
        index: Of the set among those of the report.
        downstream: Results of the downstream tasks; None without them.
    """
    chips = (
        _realism(results),
        _hounsfield_units(results),
        _copies(results),
        _memorised(results),
        _helps(index, downstream),
    )
    return Headline(_sentence(results, chips), chips)


def _sentence(results: SetResults, chips: Sequence[Chip]) -> str:
    """What the worst chips come to."""
    duplicates = results.near_duplicates
    if duplicates.count:
        return (
            f"Not usable: {duplicates.count} of {duplicates.checked} slices are near-duplicates of real ones."
        )
    poor = _names(chips, "poor")
    fair = _names(chips, "fair")
    if poor:
        return f"Falls short in {poor}" + (f"; {fair} only fair." if fair else ".")
    if fair:
        return f"Good but for {fair}."
    return "Good in every measure that was taken."


def _names(chips: Sequence[Chip], judgement: Judgement) -> str:
    names = [chip.subject for chip in chips if chip.judgement == judgement]
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])

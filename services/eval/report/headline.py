"""The results on a set of synthetic slices at a glance: a sentence, and chips with a number and a word."""

from collections.abc import Sequence
from typing import Final

from lungforge.ct import classes
from lungforge.metrics.judgement import JUDGED_CLASSES, judge_hounsfield_units, judge_realism
from services.eval.copy_results import MemorisationResult
from services.eval.downstream.results import DownstreamResults
from services.eval.report.radiomic_words import moved_words
from services.eval.report.wording import listed, signed, signed_integer
from services.eval.results import Chip, Headline, Judgement, SetResults
from services.eval.set_results import HounsfieldRow, NotMeasured, RadiomicResult

#: The names of the classes that are judged by HU.
_JUDGED: Final = [classes.NAMES[label] for label in JUDGED_CLASSES]
#: What a chip is called in a sentence.
_SUBJECTS: Final = {
    "Realism": "realism",
    "Hounsfield units": "Hounsfield units",
    "Copies": "copies",
    "Memorised": "memorisation",
    "Helps": "use for training",
}


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
        _memorised(results.memorisation),
        _helps(index, downstream),
    )
    return Headline(_sentence(results, chips), chips)


def _sentence(results: SetResults, chips: Sequence[Chip]) -> str:
    duplicates = results.near_duplicates
    if duplicates.count:
        return (
            f"Not usable: {duplicates.count} of {duplicates.checked} slices are near-duplicates of real "
            "ones, so no other result means anything."
        )
    poor, fair = _subjects(chips, "poor"), _subjects(chips, "fair")
    moved = moved_words(results.radiomic.moved) if isinstance(results.radiomic, RadiomicResult) else ""
    if poor or fair:
        verdict = f"Poor in {poor}" if poor else f"Only fair in {fair}"
        return f"{verdict} ({moved})." if moved else f"{verdict}."
    return "As good as real slices in everything that was measured."


def _subjects(chips: Sequence[Chip], judgement: Judgement) -> str:
    names = [_SUBJECTS[chip.name] for chip in chips if chip.judgement == judgement]
    return listed(names)


def _realism(results: SetResults) -> Chip:
    """By the radiomic distance over its baseline; KID's test keeps it from being good."""
    radiomic = results.radiomic
    if isinstance(radiomic, NotMeasured):
        return Chip("Realism", "not measured", radiomic.why_not)
    if radiomic.baseline is None or radiomic.baseline.real_mean <= 0:
        return Chip("Realism", "not measured", "there is no real-vs-real baseline")
    ratio = radiomic.baseline.synthetic_mean / radiomic.baseline.real_mean
    p_value = results.kid.p_value
    judgement = judge_realism(ratio, radiomic.p_value, p_value)
    kid = "" if p_value is None else f"; KID p = {p_value:.2g}"
    return Chip("Realism", judgement, f"radiomic distance {_times(ratio)} x real-vs-real{kid}")


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def worst_class(rows: Sequence[HounsfieldRow]) -> HounsfieldRow | None:
    """The class whose median differs most, of those with many pixels; None where none is in both sets."""
    judged = [row for row in rows if row.class_name in _JUDGED and row.difference is not None]
    return max(judged, key=lambda row: abs(row.difference or 0), default=None)


def _hounsfield_units(results: SetResults) -> Chip:
    """By the class whose median differs most."""
    worst = worst_class(results.hounsfield_units)
    if worst is None:
        return Chip("Hounsfield units", "not measured", "no class is in both sets")
    difference = worst.difference or 0
    value = f"{worst.class_name} {signed_integer(difference)} HU" if difference else "no difference"
    return Chip("Hounsfield units", judge_hounsfield_units(difference), value)


def _copies(results: SetResults) -> Chip:
    duplicates = results.near_duplicates
    judgement: Judgement = "poor" if duplicates.count else "good"
    return Chip("Copies", judgement, f"{duplicates.count} near-duplicates of {duplicates.checked} slices")


def _memorised(result: MemorisationResult | NotMeasured) -> Chip:
    """By the share of slices nearer to a training slice than real ones of other patients hardly ever are."""
    if isinstance(result, NotMeasured):
        return Chip("Memorised", "not measured", result.why_not)
    interval = result.tail_interval_95_percent
    if interval is None:
        return Chip("Memorised", "not measured", "slices of one patient only")
    low, high = interval
    value = (
        f"{_percent(result.tail_share)} nearer to a training slice than real ones are "
        f"({_percent(low)} to {_percent(high)}; {_percent(result.tail_expected)} by chance)"
    )
    return Chip("Memorised", "poor" if low > result.tail_expected else "good", value)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _helps(index: int, downstream: DownstreamResults | None) -> Chip:
    """By the arms of real and synthetic slices: do they give more than classic augmentation and copies?"""
    if downstream is None:
        return Chip("Helps", "not measured", "no networks were trained")
    answers = [answer for answer in downstream.answers() if answer.synthetic == index and answer.arm.real]
    parts, helps = [], []
    for task in downstream.tasks:
        known = [(answer.helps, answer) for answer in answers if answer.task is task]
        judged = [(way, answer) for way, answer in known if way is not None]
        if not judged:
            parts.append(f"{task.task}: not measured")
            continue
        way, answer = max(judged, key=lambda each: each[0])
        helps.append(way)
        difference = answer.to_classic.difference if answer.to_classic is not None else None
        word = {1: "gain", 0: "no gain shown", -1: "loss"}[way]
        parts.append(f"{task.task}: {word}" + ("" if difference is None else f" ({signed(difference)})"))
    value = "; ".join(parts)
    if not helps:
        return Chip("Helps", "not measured", value)
    judgement: Judgement = "good" if max(helps) > 0 else "poor" if min(helps) < 0 else "fair"
    return Chip("Helps", judgement, value)

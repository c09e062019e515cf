"""The results of an evaluation in sentences: its verdict, and the warnings that come before its results."""

from collections.abc import Iterator, Sequence

from lungforge.metrics.permutation import SIGNIFICANCE
from services.eval.copy_results import MemorisationResult
from services.eval.downstream.results import REFERENCE_TITLES, DownstreamResults, measure_title
from services.eval.report.wording import plus_minus, signed, significant, threshold_words
from services.eval.results import SetResults
from services.eval.sensitivity import sensitivity_sentence
from services.eval.set_results import NotMeasured

#: Below this many images on a side a Fréchet distance in 2,048 dimensions is mostly bias.
FEW_IMAGES = 2048
#: A synthetic mean within this many spreads of the real-vs-real baseline counts as equal to it.
_SPREADS = 2.0


def warnings_of(results: SetResults) -> list[str]:
    """What a reader must know before the results on a set."""
    frechet, name = results.frechet, results.name
    warnings = []
    fewest = min(frechet.real_images, frechet.synthetic_images)
    if fewest < FEW_IMAGES:
        warnings.append(
            f"{name}: the smaller side has {fewest} images, below {FEW_IMAGES}: the Fréchet distance is "
            "biased upwards. Compare it only with the real-vs-real baseline at the same image count, and "
            "with nothing outside this report."
        )
    if frechet.baseline is None:
        warnings.append(
            f"{name}: there is no real-vs-real baseline: the real slices are of one scan only, or too few."
        )
    return warnings


def verdict_of(sets: Sequence[SetResults], downstream: DownstreamResults | None = None) -> list[str]:
    """The results on all sets in sentences, the gravest first.

    Args:
        sets: The results on each set.
        downstream: The results of the downstream tasks: they come first but for near-duplicates.
    """
    duplicated = [results for results in sets if results.near_duplicates.count]
    sentences = [
        f"{results.near_duplicates.count} of {results.near_duplicates.checked} slices of “{results.name}” "
        "are near-duplicates of real ones: no result on this set means anything."
        for results in duplicated
    ]
    if downstream is not None:
        sentences += downstream_sentences(downstream, [results.name for results in sets])
    for results in sets:
        if results in duplicated:
            continue
        sentences += [_test_sentence(results), _distance_sentence(results)]
        sentences.append(
            f"None of the {results.near_duplicates.checked} slices of “{results.name}” is a near-duplicate "
            "of a real one (highest correlation of texture "
            f"{results.near_duplicates.highest_correlation:.2f}, threshold "
            f"{threshold_words(results.near_duplicates)})."
        )
        sentences.append(memorisation_sentence(results.name, results.memorisation))
        sentences.append(sensitivity_sentence(results.name, results.sensitivity))
    return sentences


def downstream_sentences(downstream: DownstreamResults, names: Sequence[str]) -> Iterator[str]:
    """For each task, set and ratio: do the synthetic slices help, by how much, and in which intervals?

    Args:
        downstream: The results.
        names: Of the sets of synthetic slices.
    """
    for task in downstream.tasks:
        if task.not_measured is not None:
            yield f"{task.task.capitalize()}: not measured: {task.not_measured.why_not}."
    for answer in downstream.answers():
        if not answer.arm.real or answer.not_measured is not None:
            continue
        judged = "cannot be judged with these scans and networks"
        if answer.helps is not None:
            word = {1: "helps", -1: "harms", 0: "makes no difference that can be shown"}[answer.helps]
            differences = [
                f"{signed(middle)} to {REFERENCE_TITLES[each.reference]} ({signed(low)} to {signed(high)})"
                for each in (answer.to_classic, answer.to_duplicates)
                if each is not None and each.interval is not None
                for low, middle, high in [each.interval]
            ]
            judged = (
                f"{word} (difference in {measure_title(answer.task.headline)}, with 95 % interval: "
                f"{', '.join(differences)})"
            )
        yield (
            f"{answer.task.task.capitalize()}: adding {answer.arm.ratio:g} x “{names[answer.synthetic]}” to "
            f"the real slices {judged}."
        )
    if downstream.froc is not None:
        arms = [
            f"{arm.name} {arm.score.cpm:.3f} ({arm.score.cpm_low:.3f} to {arm.score.cpm_high:.3f})"
            for arm in downstream.froc.arms
        ]
        yield (
            f"Detection in whole scans, CPM over {downstream.froc.scans} scans with 95 % interval: "
            f"{'; '.join(arms)}."
        )


def memorisation_sentence(name: str, result: MemorisationResult | NotMeasured) -> str:
    """What the distances to the training slices say, as far as they carry it."""
    if isinstance(result, NotMeasured):
        return f"Whether “{name}” repeats its training slices was not measured: {result.why_not}."
    if result.interval_95_percent is None:
        return (
            f"Whether “{name}” repeats its training slices cannot be judged with slices of one scan "
            f"(ratio of distances {result.ratio:.2f})."
        )
    low, high = result.interval_95_percent
    measured = (
        f"its median distance to the nearest training slice is {result.ratio:.2f} times that of held-out "
        f"real slices, 95 % interval {low:.2f} to {high:.2f}; for {result.nearest_is_source} of "
        f"{result.synthetic.images} slices the nearest is the one whose map they were generated from"
    )
    if high < 1:
        return (
            f"“{name}” is nearer to its training slices than real slices of other scans are, "
            f"a sign of memorisation: {measured}."
        )
    if low > 1:
        return (
            f"“{name}” is farther from its training slices than real slices of other scans are. An "
            f"unrealistic image is, too, so distance alone does not rule out memorisation: {measured}."
        )
    return f"“{name}” shows no sign of memorisation: {measured}."


def _test_sentence(results: SetResults) -> str:
    """Whether the tests of the radiomic distance and of KID tell the slices from real ones."""
    name, radiomic = f"“{results.name}”", results.radiomic
    if isinstance(radiomic, NotMeasured) or radiomic.p_value is None or results.kid.p_value is None:
        return f"Too few slices or scans to test whether {name} differs from real slices of other scans."
    p_values = f"p = {radiomic.p_value:.2g} by radiomic distance, {results.kid.p_value:.2g} by KID"
    baseline = radiomic.baseline
    times = ""
    if baseline is not None and baseline.real_mean > 0:
        ratio = significant(baseline.synthetic_mean / baseline.real_mean, 2)
        times = f"; the radiomic distance is {ratio} times its real-vs-real baseline"
    if min(radiomic.p_value, results.kid.p_value) < SIGNIFICANCE:
        return f"{name} differs from real slices of other scans by more than chance ({p_values}){times}."
    return f"No test tells {name} from real slices of other scans ({p_values}){times}."


def _distance_sentence(results: SetResults) -> str:
    name, baseline = f"“{results.name}”", results.frechet.baseline
    if baseline is None:
        return f"How far {name} is from the real slices cannot be judged without a real-vs-real baseline."
    measured = (
        f"Fréchet distance {plus_minus(baseline.synthetic_mean, baseline.synthetic_spread)}; real-vs-real "
        f"baseline {plus_minus(baseline.real_mean, baseline.real_spread)}; {baseline.images} images a side"
    )
    if baseline.synthetic_mean <= baseline.real_mean + _SPREADS * baseline.real_spread:
        return (
            f"By the network's features, {name} is at this image count as near to real slices as they are to "
            f"one another ({measured})."
        )
    if baseline.real_mean <= 0:
        return f"By the network's features, {name} differs from the real slices ({measured})."
    ratio = baseline.synthetic_mean / baseline.real_mean
    return (
        f"By the network's features, {name} is {ratio:.3g} times as far from real slices as they are from "
        f"one another ({measured})."
    )

"""The results of an evaluation as Markdown tables: ``python -m benchmarks.study_table --report URI``.

Writes what ``docs/measurements/study-luna16-mini.md`` holds, from the ``metrics.json`` of ``lungforge
evaluate``.
"""

import argparse
import sys
from collections.abc import Iterator

from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from services.eval.downstream.results import (
    REFERENCE_TITLES,
    REFERENCES,
    CropTestSet,
    Difference,
    DownstreamResults,
    PictureTestSet,
    TaskResult,
    measure_title,
)
from services.eval.report.wording import MINUS
from services.eval.results import EvaluationReport


def tables(report: EvaluationReport, downstream: DownstreamResults) -> Iterator[str]:
    """The lines of all tables."""
    yield from (f"- {sentence}" for sentence in report.verdict)
    yield ""
    yield "| slices | n | Fréchet distance | real vs real | KID | precision | recall | near-duplicates |"
    yield "|---|---|---|---|---|---|---|---|"
    for results in report.sets:
        equal, shares = results.frechet.baseline, results.precision_recall
        synthetic = real = "–"
        if equal is not None:
            synthetic = f"{_number(equal.synthetic_mean, 1)} ± {_number(equal.synthetic_spread, 1)}"
            real = f"{_number(equal.real_mean, 1)} ± {_number(equal.real_spread, 1)}"
        yield (
            f"| {results.name} | {results.images} | {synthetic} | {real} | "
            f"{_number(results.kid.mean, 4)} ± {_number(results.kid.spread, 4)} | "
            f"{_number(shares.precision.value)} | {_number(shares.recall.value)} | "
            f"{results.near_duplicates.count} of {results.near_duplicates.checked} |"
        )
    yield ""
    names = [results.name for results in report.sets]
    yield f"| median HU | real | {' | '.join(names)} |"
    yield "|---|---|" + "---|" * len(names)
    for rows in zip(*(results.hounsfield_units for results in report.sets), strict=True):
        medians = [rows[0].real.median, *(row.synthetic.median for row in rows)]
        yield f"| {rows[0].class_name} | {' | '.join(_number(median, 0) for median in medians)} |"
    for task in downstream.tasks:
        yield ""
        yield from _of_task(task)


def _of_task(task: TaskResult) -> Iterator[str]:
    yield (
        f"{task.task.capitalize()}: {task.networks_per_arm} networks per arm; test set: {_test(task.test)}; "
        f"validation: {', '.join(map(str, task.validation_scans))} scans."
    )
    yield ""
    measures = [each.measure for each in task.arms[0].measures]
    measures.sort(key=lambda measure: measure != task.headline)
    titles = " | ".join(map(measure_title, measures))
    yield f"| arm | trained on | steps chosen | {titles} |"
    yield "|---|---|---|" + "---|" * len(measures)
    for arm in task.arms:
        results = [arm.measure(measure) for measure in measures]
        values = [f"{_number(result.mean)} ± {_number(result.spread)}" for result in results]
        pictures, steps = (
            ", ".join(map(str, counts)) for counts in (arm.training_pictures, arm.chosen_steps)
        )
        yield f"| {arm.name} | {pictures} | {steps} | {' | '.join(values)} |"
    yield ""
    if task.not_measured is not None:
        yield f"Differences: not measured: {task.not_measured.why_not}."
        return
    yield f"Difference in {measure_title(task.headline)}, with intervals that together cover with 95 %:"
    yield ""
    yield f"| arm | {' | '.join(f'to {REFERENCE_TITLES[reference]}' for reference in REFERENCES)} |"
    yield "|---|" + "---|" * len(REFERENCES)
    for arm in task.arms[1:]:
        headline = arm.measure(task.headline)
        yield f"| {arm.name} | {' | '.join(_difference(headline.to(each)) for each in REFERENCES)} |"


def _difference(one: Difference | None) -> str:
    if one is None or one.interval is None:
        return "–"
    low, middle, high = (_number(value, signed=True) for value in one.interval)
    return f"{middle} ({low} to {high})"


def _test(test: CropTestSet | PictureTestSet) -> str:
    """A test set in words."""
    if isinstance(test, CropTestSet):
        return f"{test.crops} crops, {test.nodules} of nodules, {test.scans} scans"
    return (
        f"{test.pictures} pictures, {test.pictures_with_nodules} with nodules, {test.nodules} nodules, "
        f"{test.scans} scans"
    )


def _number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''}.{places}f}".replace("-", MINUS)


def main() -> int:
    """Print the tables of a report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study_table", description=__doc__)
    parser.add_argument("--report", required=True, help="a report, as `lungforge evaluate` wrote it")
    arguments = parser.parse_args()
    try:
        report = EvaluationReport.from_json(
            Dataset.open(arguments.report, Kind.REPORT).read_file("metrics.json")
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if report.downstream is None:
        print(f"{arguments.report} has no downstream tasks; evaluate with --downstream", file=sys.stderr)
        return 2
    print("\n".join(tables(report, report.downstream)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

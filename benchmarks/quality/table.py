"""The results as Markdown: ``python -m benchmarks.quality.table --results FOLDER/quality.json``.

Writes the tables of ``docs/measurements/quality.md`` from what ``python -m benchmarks.quality`` left.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.quality.results import BASELINES, MEASURES, QualityReport, SetQuality, TrainedModel
from lungforge.ct import classes
from lungforge.errors import AccessError, InputError
from lungforge.storage import read_bytes
from services.eval.report.wording import MINUS
from services.eval.set_results import NotMeasured

#: What stands where there is nothing to say.
NOTHING = "–"


def tables(report: QualityReport) -> Iterator[str]:
    """The lines of all tables."""
    what = "whole slices" if report.patch is None else "patches"
    seeds = len({one.seed for one in report.models})
    yield (
        f"{report.size} px, {what}; {report.threads} thread{'s' * (report.threads > 1)}; trained on "
        f"{report.training_images} slices (subsets {_listed(report.train)}), measured on {report.images} "
        f"slices of {report.scans} scans (subsets {_listed(report.validate)}); "
        f"{seeds} seed{'s' * (seeds > 1)}{', lowest to highest in brackets' * (seeds > 1)}."
    )
    for name in report.diverged:
        yield f"Diverged: {name}."
    yield from ("", *_measures(report), "", *_halves(report), "", *_hounsfield(report))


def _measures(report: QualityReport) -> Iterator[str]:
    yield f"All {report.images} slices:"
    yield ""
    titles = [measure.title for measure in MEASURES]
    head = ["slices", "steps", "minutes taken", "seconds an image", *titles]
    head += ["p (radiomic)", "p (KID)", "near-duplicates"]
    yield from _head(head)
    yield _row(_REAL, ["", "", "", *_shown(report.real)])
    for label, group in _groups(report):
        taken = [one.minutes_taken for one in group if one.minutes_taken is not None]
        cost = [
            _values([float(one.steps) for one in group], 0),
            _values(taken, 1),
            _values([one.seconds_per_image for one in group], 2),
        ]
        yield _row(label, [*cost, *_shown([one.quality for one in group])])


def _shown(sets: Sequence[SetQuality]) -> Iterator[str]:
    for measure in MEASURES:
        yield _values(measure.of(sets), measure.digits)
    radiomic = [one.radiomic.p_value for one in sets if not isinstance(one.radiomic, NotMeasured)]
    yield _values([value for value in radiomic if value is not None], 3)
    yield _values([one.kid.p_value for one in sets if one.kid.p_value is not None], 3)
    copies = [one.near_duplicates for one in sets]
    yield f"{sum(one.count for one in copies)} of {sum(one.checked for one in copies)}"


def _halves(report: QualityReport) -> Iterator[str]:
    """Distances at the image count of halves of the validation slices, beside those between the halves."""
    everything = [*report.real, *(one.quality for one in report.models)]
    counts = [
        compared.images for one in everything for _, baseline in BASELINES if (compared := baseline(one))
    ]
    if not counts:
        yield "No halves of the validation slices without a common scan can be compared."
        return
    yield f"Halves of the validation slices, n = {min(counts)} on each side:"
    yield ""
    yield from _head(["slices", *(measure.title for measure, _ in BASELINES)])

    def cells(sets: Sequence[SetQuality], side: str) -> Iterator[str]:
        for measure, baseline in BASELINES:
            found = [getattr(compared, side) for one in sets if (compared := baseline(one))]
            yield _values([measure.factor * value for value in found], measure.digits)

    yield _row("the other half, real", [*cells(everything[:1], "real_mean")])
    yield _row(_REAL, [*cells(report.real, "synthetic_mean")])
    for label, group in _groups(report):
        yield _row(label, [*cells([one.quality for one in group], "synthetic_mean")])


def _hounsfield(report: QualityReport) -> Iterator[str]:
    """Of each class the pooled median less that of the real slices, and the error of a slice."""
    yield (
        "Hounsfield units: the median of each class over all slices, less that of the validation slices; "
        "behind the stroke, the mean absolute error of a slice's median:"
    )
    yield ""
    yield from _head(["slices", *classes.NAMES, "nodule contrast"])
    first = report.real[0]
    medians = [NOTHING if row.real.median is None else f"{row.real.median}" for row in first.hounsfield_units]
    contrast = first.nodule_contrast_hu.real.median
    yield _row(
        "validation slices, HU",
        [*(text.replace("-", MINUS) for text in medians), NOTHING if contrast is None else f"{contrast:.0f}"],
    )
    yield _row(_REAL, [*_differences(report.real)])
    for label, group in _groups(report):
        yield _row(label, [*_differences([one.quality for one in group])])


def _differences(sets: Sequence[SetQuality]) -> Iterator[str]:
    for label in range(classes.COUNT):
        rows = [one.hounsfield_units[label] for one in sets]
        text = _values([float(row.difference) for row in rows if row.difference is not None], 0, sign="+")
        errors = [row.from_source for row in rows if row.from_source is not None]
        yield f"{text} / {_values(errors, 0)}" if errors else text
    contrasts = [one.nodule_contrast_hu for one in sets]
    yield _values(
        [
            each.synthetic.median - each.real.median
            for each in contrasts
            if each.synthetic.median is not None and each.real.median is not None
        ],
        0,
        sign="+",
    )


_REAL = "real, training subsets"


def _groups(report: QualityReport) -> list[tuple[str, list[TrainedModel]]]:
    return [(f"{model}, {minutes:g} min", group) for (model, minutes), group in report.groups().items()]


def _values(values: Sequence[float], digits: int, sign: str = "") -> str:
    """The mean, and the lowest and highest where they differ."""
    if not values:
        return NOTHING

    def text(value: float) -> str:
        return f"{value:{sign},.{digits}f}".replace("-", MINUS)

    mean, low, high = (text(float(value)) for value in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _listed(subsets: Sequence[int]) -> str:
    return ", ".join(map(str, subsets))


def _head(titles: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(cells)} |"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.table", description=__doc__)
    parser.add_argument("--results", required=True, help="quality.json of python -m benchmarks.quality")
    arguments = parser.parse_args()
    try:
        report = QualityReport.from_json(read_bytes(arguments.results))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except AccessError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(tables(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

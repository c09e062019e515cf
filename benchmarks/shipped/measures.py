"""Every measure of an evaluation as tables of a model card, each with n and its real-vs-real baseline."""

from services.eval.copy_results import MemorisationResult
from services.eval.report.wording import threshold_words
from services.eval.results import SetResults
from services.eval.set_results import (
    BaselineComparison,
    Coverage,
    HounsfieldRow,
    MapAgreement,
    NotMeasured,
    RadiomicResult,
)

_NONE = "-"


def measures(results: SetResults) -> list[str]:
    """The tables and sentences on one set of samples, in lines of Markdown."""
    lines = ["| measure | synthetic against real | real against real | n of each side | all images |"]
    lines += ["|---|---|---|---|---|"]
    frechet, kid, covered = results.frechet, results.kid, results.precision_recall
    counts = f"{frechet.synthetic_images} against {frechet.real_images}"
    lines.append(_row(frechet.name, frechet.baseline, f"{frechet.value:.4g} ({counts})"))
    lines.append(_row(kid.name, kid.baseline, f"{kid.mean:.3g} ± {kid.spread:.2g}{_p(kid.p_value)}"))
    lines.append(_radiomic(results.radiomic))
    lines += [_covered("precision", covered.precision), _covered("recall", covered.recall)]
    lines += ["", *_hounsfield(results.hounsfield_units), "", *_contrast(results), ""]
    lines += [*_agreement(results.map_agreement), "", *_copies(results)]
    return lines


def _row(name: str, baseline: BaselineComparison | None, everything: str) -> str:
    if baseline is None:
        return f"| {name} | {_NONE} | {_NONE} | {_NONE} | {everything} |"
    synthetic = f"{baseline.synthetic_mean:.4g} ± {baseline.synthetic_spread:.2g}"
    real = f"{baseline.real_mean:.4g} ± {baseline.real_spread:.2g}"
    return f"| {name} | {synthetic} | {real} | {baseline.images} | {everything} |"


def _radiomic(result: RadiomicResult | NotMeasured) -> str:
    if isinstance(result, NotMeasured):
        return f"| radiomic Fréchet distance | not measured: {result.why_not} | | | |"
    counts = f"{result.synthetic_images} against {result.real_images}"
    everything = f"{result.distance:.4g} ({counts}){_p(result.p_value)}"
    return _row("radiomic Fréchet distance", result.baseline, everything)


def _covered(name: str, coverage: Coverage) -> str:
    return _row(name, coverage.baseline, _NONE if coverage.value is None else f"{coverage.value:.2f}")


def _p(value: float | None) -> str:
    return "" if value is None else f", p = {value:.3g}"


def _hounsfield(rows: tuple[HounsfieldRow, ...]) -> list[str]:
    lines = ["| class | HU, real | HU, synthetic | difference | per slice, from its source | pixels |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        values = (row.real.median, row.synthetic.median, row.difference, row.from_source)
        words = " | ".join(_NONE if value is None else f"{value:.0f}" for value in values)
        lines.append(f"| {row.class_name} | {words} | {row.synthetic.pixels:,} and {row.real.pixels:,} |")
    return ["Medians of each class, in HU; real is the value to reach.", "", *lines]


def _contrast(results: SetResults) -> list[str]:
    real, synthetic = results.nodule_contrast_hu.real, results.nodule_contrast_hu.synthetic
    if real.median is None or synthetic.median is None:
        return ["Contrast of the nodules to the lung around them: not measured, as too few lie in lung."]
    return [
        f"Contrast of the nodules to the lung around them: {synthetic.median:.0f} HU in the median of "
        f"{synthetic.nodules} synthetic ones, {real.median:.0f} HU of {real.nodules} real ones."
    ]


def _agreement(result: MapAgreement | NotMeasured) -> list[str]:
    if isinstance(result, NotMeasured):
        return [f"Agreement with the map: not measured, as {result.why_not}."]
    lines = ["| Dice of map and slice, segmented again | synthetic | real | n |", "|---|---|---|---|"]
    for each in result.structures:
        medians = " | ".join(
            _NONE if side.median is None else f"{side.median:.3f}" for side in (each.synthetic, each.real)
        )
        lines.append(f"| {each.structure} | {medians} | {each.synthetic.images} and {each.real.images} |")
    return lines


def _copies(results: SetResults) -> list[str]:
    found = results.near_duplicates
    line = (
        f"Near-duplicates of real slices: {found.count} of {found.checked} (highest correlation of texture "
        f"{found.highest_correlation:.2f}, threshold {threshold_words(found)})"
    )
    if found.false_alarms is not None:
        line += (
            f"; of real slices of other patients {found.false_alarms.count} of {found.false_alarms.checked}"
        )
    return [f"{line}.", "", _memorised(results.memorisation)]


def _memorised(result: MemorisationResult | NotMeasured) -> str:
    if isinstance(result, NotMeasured):
        return f"Memorisation: not measured, as {result.why_not}."
    interval = result.tail_interval_95_percent
    words = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    return (
        f"Memorisation: {result.tail_share:.3f}{words} of {result.synthetic.images} samples are nearer "
        f"to one of {result.training_images} training slices than real slices of other patients hardly ever "
        f"are; {result.tail_expected:.3f} is expected without memorisation. The median distance is "
        f"{result.ratio:.2f} times that of {result.held_out.images} held-out real slices."
    )

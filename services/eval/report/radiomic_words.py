"""What moved, in words: shifts of radiomic features, and of the Hounsfield units of the classes."""

from collections.abc import Sequence
from typing import Final

from lungforge.metrics.permutation import SIGNIFICANCE
from lungforge.metrics.radiomic_distance import FeatureShift
from services.eval.report.wording import MINUS, signed_integer
from services.eval.set_results import HounsfieldRow

#: A factor from this on is stated as "3.0 times as large", a smaller one in percent.
_LARGE_FACTOR: Final = 1.5
#: Shifts in a sentence.
_NAMED: Final = 3


def shift_words(shift: FeatureShift) -> str:
    """A shift in a few words, such as "lungs: median +190 HU" or "body: noise 3.0 times as large"."""
    name = shift.name.partition(" (")[0]
    return f"{shift.region}: {name} {_change(shift)}"


def moved_words(moved: Sequence[FeatureShift]) -> str:
    """The largest shifts, one of each kind in each region; empty without any."""
    named: dict[tuple[str, str], FeatureShift] = {}
    for shift in moved:
        named.setdefault((shift.region, shift.unit), shift)
    return "; ".join(shift_words(shift) for shift in list(named.values())[:_NAMED])


def feature_value(value: float, unit: str) -> str:
    """A median as tables show it."""
    text = {"HU": f"{value:.0f}", "share": f"{100 * value:.1f} %"}.get(unit, f"{value:.3g}")
    return text.replace("-", MINUS)


def hounsfield_words(rows: Sequence[HounsfieldRow]) -> str:
    """The medians that differ by more than chance, the largest difference first."""
    known = [row for row in rows if row.difference is not None]
    differing = [row for row in known if row.p_value is None or row.p_value < SIGNIFICANCE]
    differing.sort(key=lambda row: -abs(row.difference or 0))
    if not differing:
        return "the medians of all classes agree as far as these scans can tell"
    words = ", ".join(f"{row.class_name} {signed_integer(row.difference or 0)} HU" for row in differing)
    if len(differing) == len(known):
        return words
    return f"{words}; the other classes differ by no more than chance"


def _change(shift: FeatureShift) -> str:
    real, synthetic = shift.real_median, shift.synthetic_median
    if shift.unit == "HU":
        return f"{signed_integer(round(synthetic - real))} HU"
    if shift.unit == "times" and min(real, synthetic) > 0:
        factor = synthetic / real
        if factor >= _LARGE_FACTOR:
            return f"{factor:.1f} times as large"
        return f"{signed_integer(round(100 * (factor - 1)))} %"
    return f"{feature_value(synthetic, shift.unit)} instead of {feature_value(real, shift.unit)}"

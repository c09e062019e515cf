"""How many digits of a result are kept: the further ones change with the order of additions."""

import dataclasses
from typing import Final

from lungforge.metrics.real_baseline import BaselineComparison

_DIGITS: Final = 6


def rounded(value: float) -> float:
    """A value as the report keeps it."""
    return float(f"{value:.{_DIGITS}g}")


def rounded_baseline(comparison: BaselineComparison | None) -> BaselineComparison | None:
    """A comparison as the report keeps it."""
    if comparison is None:
        return None
    return dataclasses.replace(
        comparison,
        real_mean=rounded(comparison.real_mean),
        real_spread=rounded(comparison.real_spread),
        synthetic_mean=rounded(comparison.synthetic_mean),
        synthetic_spread=rounded(comparison.synthetic_spread),
    )

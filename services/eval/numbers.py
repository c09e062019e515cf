"""How an evaluation writes numbers: into its document, and for people."""

import math

#: Digits that are kept; the further ones change with the order of additions.
_DIGITS = 6


def rounded(value: float) -> float:
    """A number as the document keeps it."""
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")


def plus_minus(mean: float, spread: float) -> str:
    """A mean and its spread for a person: the spread with two digits, the mean to the same place."""
    places = 0 if spread <= 0 else max(0, 1 - math.floor(math.log10(spread)))
    return f"{mean:.{places}f} ± {spread:.{places}f}".replace("-", "\N{MINUS SIGN}")

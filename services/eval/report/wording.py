"""How reports write values for people."""

import math
import re
from collections.abc import Sequence
from typing import Final

from services.eval.copy_results import NearDuplicates

MINUS: Final = "\N{MINUS SIGN}"

_REAL: Final = re.compile(r"\b[Rr]eal\b")
#: What a reader or a listener meets of HTML: text between tags, but not in listings, and descriptions.
_READ: Final = re.compile(
    r'(?<=>)[^<>]+(?=<)(?!</code>|</pre>|</style>)|(?<=alt=")[^"]*|(?<=aria-label=")[^"]*'
)


def plus_minus(mean: float, spread: float) -> str:
    """A mean and its spread: the spread with two digits, the mean to the same decimal."""
    places = 0 if spread <= 0 else max(0, 1 - math.floor(math.log10(spread)))
    return f"{mean:.{places}f} ± {spread:.{places}f}".replace("-", MINUS)


def listed(names: Sequence[str]) -> str:
    """Names with commas, the last one with "and"."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def significant(value: float | None, digits: int = 4) -> str:
    """A value with so many significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}".replace("-", MINUS)


def threshold_words(duplicates: NearDuplicates) -> str:
    """The correlation above which slices are near-duplicates: one, or the lowest and the highest."""
    ends = [f"{end:.2f}" for end in (duplicates.lowest_threshold, duplicates.highest_threshold)]
    return " to ".join(dict.fromkeys(ends))


def signed(value: float) -> str:
    """A difference to three decimals with its sign; what rounds to zero is not negative."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", MINUS)


def signed_integer(value: int) -> str:
    """A whole difference with its sign."""
    return f"{value:+d}".replace("-", MINUS)


def of_phantoms(text: str) -> str:
    """A sentence about real slices as one about phantoms."""
    return _REAL.sub(lambda found: "Phantom" if found[0] == "Real" else "phantom", text)


def page_of_phantoms(page: str) -> str:
    """A page about real slices as one about phantoms: its text, and what is read aloud of its pictures."""
    return _READ.sub(lambda found: of_phantoms(found[0]), page)


def subsets_words(subsets: Sequence[int] | None) -> str:
    """Subsets in few words: runs of three and more by their ends."""
    if subsets is None:
        return "all subsets"
    runs: list[list[int]] = []
    for subset in sorted(subsets):
        if runs and runs[-1][-1] == subset - 1:
            runs[-1].append(subset)
        else:
            runs.append([subset])
    words = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"subset{'s' if len(subsets) > 1 else ''} {', '.join(words)}"

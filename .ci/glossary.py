"""Whether words that the field does not use have come into code or pages: ``python .ci/glossary.py``.

Each rule is a pattern that everyday English and other people's programs rarely match, and the term to use
instead. What is right all the same is excepted by the pattern itself, or named in ``ALLOWED``.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Rule:
    """A pattern that must not match, in any case of letters, and what to write instead."""

    pattern: str
    instead: str


RULES: Final = (
    Rule(
        r"\b(batch|share)\w* (is |are )?(cut|split) into pieces|\bpieces of (a|the|its) (batch|share)",
        "micro-batches",
    ),
    Rule(r"--pieces\b|\bpieces: int", "gradient accumulation"),
    Rule(r"\bmap[-_ ]drop(out)?\b", "condition dropout"),
    Rule(r"\baverage[-_ ]decay\b", "EMA decay"),
    Rule(r"--clip\b|\bclip: float|\bgrad[-_ ]?clip\b", "max grad norm"),
    Rule(r"\bpainters?\b", "generator or sampler"),
    Rule(r"\bdrawn (thorax|phantom|lung|chest)\w*", "synthetic phantoms"),
    Rule(r"\bdraw(s|ing)? (\w+ ){0,2}(synthetic|samples|CT|thorax\w*)\b", "sample or generate"),
    Rule(r"--draw\b|\bdraws? (images|slices) (of|from) (maps?|a map|the map)", "sample or generate"),
    Rule(r"\b(wears?|wearing|worn)\b", "erode"),
    Rule(r"\bgrow(s|n|ing)? (the|a|its) (mask|region|label|lung)s?\b|\bdef grow\b", "dilate"),
    Rule(r"\bstarts?[-_]at[-_]zero\b", "zero_init"),
    Rule(r"\btwins?\b", "near-duplicates"),
    Rule(r"\bnear[- ]cop(y|ies)\b", "near-duplicates"),
    Rule(r"\b(real|noise|distance|the) floor\b(?! of)|\bfloor_(distance|fid|kid)\b", "real-vs-real baseline"),
    Rule(r"\bkernel distance\b", "KID"),
    Rule(r"\bdesk\b", "coordinator"),
    Rule(r"\b(is|are|was|were) told\b(?! apart)", "said, reported or named"),
    Rule(r"\balpha_left\b|\bleft_alpha\b", "alpha_bar"),
    Rule(r"\bhanded in\b", "submitted"),
    Rule(r"\brais(e|es|ed|ing) (a|the|several) (\w+ )?(cluster|hosts)\b", "start a cluster"),
    Rule(r"\bwhat (it|they|that|this) comes? to\b", "results"),
    Rule(r"\bgo(es)? on\b", "resumes or continues"),
    Rule(r"\bheld against\b", "compared with"),
)
#: Names of modules that say nothing of what is in them.
FILE_NAMES: Final = re.compile(r"(^|/)(painter|desk|together|told|twins|pieces)\.\w+$")
#: Lines that are right as they are: the file, and a part of the line.
ALLOWED: Final = (
    ("tests/services/eval/report/test_in_a_browser.py", "desk"),  # the furniture
    (".ci/glossary.py", ""),
    ("tests/docs/test_glossary.py", ""),
)
_SUFFIXES: Final = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".html", ".sbatch", ".txt", ""}


def problems(path: str, text: str) -> Iterator[str]:
    """What of a file is against the rules.

    Args:
        path: Where it is, from the root of the repository.
        text: What it holds.

    Yields:
        A line for each: place, what stands there, and what to write instead.
    """
    if FILE_NAMES.search(path):
        yield f"{path}: name the file after what is in it"
    allowed = [part for file, part in ALLOWED if file == path]
    for rule in RULES:
        # Words of a sentence may stand on two lines.
        for match in re.finditer(rule.pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            start = text.rfind("\n", 0, match.start()) + 1
            line = text[start : text.find("\n", match.end())]
            if not any(part.lower() in line.lower() for part in allowed):
                number = text.count("\n", 0, match.start()) + 1
                yield f"{path}:{number}: {match[0]!r}; write {rule.instead}"


def _files() -> Iterable[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.splitlines()
    return (name for name in listed if Path(name).suffix in _SUFFIXES and not name.endswith(".lock"))


def main() -> int:
    """Print what is against the rules; 1 if anything is."""
    found = []
    for name in _files():
        path = ROOT / name
        if path.is_file():
            found += problems(name, path.read_text(encoding="utf-8", errors="replace"))
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

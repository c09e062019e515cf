"""Every message that the page on troubleshooting quotes is one that LungForge has."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
#: What stands for a value, on the page and in a text of the code.
VALUE = re.compile(r"…|\.\.\.|\b(?:[A-Z]+|[0-9.]*[0-9])\b")
HEADER = "| What you see | What it means | What to do |"


def _rows() -> Iterator[str]:
    """The first column of the tables of messages."""
    inside = False
    for line in PAGE.splitlines():
        inside = line == HEADER or (inside and line.startswith("|"))
        if inside and line != HEADER and not line.startswith("|---"):
            yield line.split("|")[1].strip()


def _quoted() -> list[str]:
    """The messages, but for those of other programs: `pandas: ...`."""
    return [
        message for row in _rows() if not re.match(r"\w+: ", row) for message in re.findall(r"`([^`]+)`", row)
    ]


@functools.cache
def _texts() -> tuple[str, ...]:
    """Every text in the code, as its parser joins it, and with an ellipsis where a value is put in."""
    texts = []
    for package in ("lungforge", "services", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            for node in nodes:
                if id(node) in documentation:
                    continue
                if isinstance(node, ast.JoinedStr):
                    texts.append("".join(_part(part) for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return tuple(texts)


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def test_there_is_a_table_for_every_area() -> None:
    areas = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert areas == ["Sources", "Stores", "Models", "Machines", "Ray", "Secrets"]
    assert len(_quoted()) >= 14


@pytest.mark.parametrize("message", _quoted())
def test_a_quoted_message_is_one_of_the_code(message: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in VALUE.split(message) if piece.strip()]
    assert message == "***" or max(map(len, pieces)) >= 10, f"{message!r} is in every program"
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    assert any(pattern.search(text) for text in _texts()), f"no text of the code holds {message!r}"


def test_every_row_says_what_to_do() -> None:
    inside = False
    for line in PAGE.splitlines():
        inside = line == HEADER or (inside and line.startswith("|"))
        if inside:
            cells = [cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")]
            assert len(cells) == 3, line
            assert all(cells), line

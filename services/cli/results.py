"""A command's result on stdout: lines for people, or one line of JSON."""

import dataclasses
import json
import re
import sys
from typing import Any

from lungforge.public_uri import public_json

#: Items of a list that are printed for a person.
LISTED = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def print_result(result: Any, *, as_json: bool) -> None:
    """Print a command's result, a dataclass or a dict, on stdout: a line a field, or one JSON line.

    A result that has a ``text`` is printed as that for people.
    """
    document = public_json(result if isinstance(result, dict) else dataclasses.asdict(result))
    text = json.dumps(document) if as_json else getattr(result, "text", None) or "\n".join(_lines(document))
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _lines(document: dict[str, Any], indent: str = "") -> list[str]:
    """A field a line; fields of fields, and the items of long lists, further in below it."""
    lines = []
    width = max((len(str(key)) for key in document), default=0)
    for key, value in document.items():
        name = f"{indent}{_plain(str(key)).replace('_', ' '):<{width}}"
        if isinstance(value, dict) and value:
            lines += [name.rstrip(), *_lines(value, indent + "  ")]
        elif isinstance(value, (list, tuple)) and any(isinstance(item, (dict, str)) for item in value):
            lines += [name.rstrip(), *(f"{indent}  {_plain(item)}" for item in value[:LISTED])]
            if len(value) > LISTED:
                lines.append(f"{indent}  ... and {len(value) - LISTED} more (--json prints all)")
        else:
            lines.append(f"{name}  {_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_plain(item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def printable(text: str) -> str:
    """A text without what would move the cursor of a terminal: others may have written it into a manifest."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)

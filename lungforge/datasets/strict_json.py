"""JSON from elsewhere: no text may mean two things, or cost its reader more than its size."""

import json
import math
from typing import Any

#: Objects and lists inside one another; what LungForge writes has less than ten.
MAX_DEPTH = 32


def parse_json(data: bytes) -> Any:
    """The value of a JSON document in UTF-8.

    Raises:
        ValueError: It is no JSON, is nested deeper than ``MAX_DEPTH``, has a name twice in one object, a
            number that is not finite, or text that is not Unicode.
    """
    try:
        document = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    _check(document)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return document


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _check(document: Any) -> None:
    """Look at every value, without recursion."""
    pending = [(document, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            value.encode()  # half of a surrogate pair is a UnicodeError, which is a ValueError
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number is too large")
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
            children = value if isinstance(value, list) else [*value.keys(), *value.values()]
            pending.extend((child, depth + 1) for child in children)

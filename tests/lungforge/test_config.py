"""What of a configuration counts, and that its digest is one for the same work."""

import dataclasses
import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.config import EXECUTION, digest, identity


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    size: int | None = 3
    subsets: tuple[int, ...] = (0, 2)
    colour: Colour = Colour.RED
    inner: Inner = Inner()
    workers: int = dataclasses.field(default=1, metadata=EXECUTION)


def test_what_only_changes_the_execution_is_left_out() -> None:
    assert identity(Outer()) == {"size": 3, "subsets": [0, 2], "colour": "red", "inner": {"rate": 0.5}}
    assert identity(Outer(workers=8)) == identity(Outer())


def test_a_digest_is_known_and_differs_with_any_value() -> None:
    # sha256 of {"a":1}
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert digest(identity(Outer(size=None))) != digest(identity(Outer()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(document=st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_keys_does_not_count(document: dict[str, Any]) -> None:
    assert digest(dict(reversed(document.items()))) == digest(document)


def test_what_is_no_json_is_a_fault_of_ours() -> None:
    @dataclasses.dataclass(frozen=True)
    class Bad:
        value: object = object()

    with pytest.raises(TypeError, match="holds JSON values, not object"):
        identity(Bad())
    with pytest.raises(ValueError, match="Out of range float"):
        digest({"a": float("nan")})

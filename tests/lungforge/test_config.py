"""What of a configuration counts, and that its digest is one for the same work."""

import dataclasses
import enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.config import (
    EXECUTION,
    LEFT_OUT_WHEN_OFF,
    NOT_EMPTY,
    above,
    at_least,
    between,
    check,
    digest,
    from_to_below,
    identity,
    option,
    options_below,
)
from lungforge.errors import InputError


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
    careful: bool = dataclasses.field(default=False, metadata=LEFT_OUT_WHEN_OFF)


def test_what_only_changes_the_execution_is_left_out() -> None:
    assert identity(Outer()) == {"size": 3, "subsets": [0, 2], "colour": "red", "inner": {"rate": 0.5}}
    assert identity(Outer(workers=8)) == identity(Outer())


def test_a_switch_that_came_later_counts_only_when_it_is_on() -> None:
    assert identity(Outer(careful=True)) == identity(Outer()) | {"careful": True}


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


def test_a_value_that_is_no_json_raises_a_programming_error() -> None:
    @dataclasses.dataclass(frozen=True)
    class Bad:
        value: object = object()

    with pytest.raises(TypeError, match="holds JSON values, not object"):
        identity(Bad())
    with pytest.raises(ValueError, match="Out of range float"):
        digest({"a": float("nan")})


@dataclasses.dataclass(frozen=True)
class Ruled:
    batch: int = dataclasses.field(default=1, metadata=EXECUTION | at_least(1))
    rate: float = dataclasses.field(default=0.1, metadata=above(0))
    share: float | None = dataclasses.field(default=None, metadata=between(0, 1))
    decay: float = dataclasses.field(default=0.9, metadata=from_to_below(0, 1))
    per_fold: tuple[int, ...] | None = dataclasses.field(default=None, metadata=NOT_EMPTY | between(0, 9))
    precision: Literal["float32", "bfloat16"] = "float32"
    tasks: tuple[Literal["a", "b", "c"], ...] | None = ("a",)
    strict: bool = False
    pairs: tuple[tuple[Literal["move"], float], ...] = (("move", 1.0),)

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "--batch is 0; give at least 1"),
        ({"rate": 0.0}, "--rate is 0; give a number above 0"),
        ({"rate": float("inf")}, "--rate is inf; give a number above 0"),
        ({"rate": float("nan")}, "--rate is nan; give a number above 0"),
        ({"share": 1.5}, "--share is 1.5; give a number from 0 to 1"),
        ({"decay": 1.0}, "--decay is 1; give at least 0 and below 1"),
        ({"per_fold": ()}, "--per-fold is empty; give at least one value"),
        ({"per_fold": (3, 10)}, "--per-fold is 3 10; give a number from 0 to 9"),
        ({"precision": "float16"}, "--precision is 'float16'; choose float32 or bfloat16"),
        ({"tasks": ("a", "d")}, "--tasks is 'a' 'd'; choose one of a, b, c"),
        # Values of a JSON document may be of any type.
        ({"batch": 2.0}, "--batch is 2; give a whole number, at least 1"),
        ({"batch": True}, "--batch is True; give a whole number, at least 1"),
        ({"batch": None}, "--batch is None; give a whole number, at least 1"),
        ({"rate": "0.1"}, "--rate is '0.1'; give a number, above 0"),
        ({"per_fold": 3}, "--per-fold is 3; give a list"),
        ({"per_fold": (3, "4")}, "--per-fold is 3 '4'; give a whole number, from 0 to 9"),
        ({"strict": "no"}, "--strict is 'no'; give true or false"),
    ],
)
def test_a_broken_rule_is_one_line_with_the_allowed_values(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Ruled(**wrong)
    assert str(caught.value) == message


def test_messages_name_the_whole_option_of_an_inner_configuration() -> None:
    with options_below("network"):
        assert option("base_channels") == "--network.base-channels"
        with options_below("first_part"), pytest.raises(InputError) as caught:
            Ruled(batch=0)
        assert option("batch") == "--network.batch"
    assert str(caught.value) == "--network.first-part.batch is 0; give at least 1"
    assert option("batch") == "--batch"


def test_what_the_rules_allow_is_taken() -> None:
    Ruled(batch=3, share=None, decay=0.0, per_fold=(0, 9), precision="bfloat16", tasks=None)

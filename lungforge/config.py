"""Configurations of jobs: their rules, what of them decides the results, and the digest of that.

A configuration is a frozen dataclass. What a field may hold stands in its metadata, once, and ``check``
enforces it in ``__post_init__`` with one wording::

    @dataclass(frozen=True)
    class Config:
        batch: int = field(default=8, metadata=EXECUTION | at_least(1))
        subsets: tuple[int, ...] | None = field(default=None, metadata=between(0, 9))
        sampler: Literal["ddim", "dpmpp"] = "ddim"

        def __post_init__(self) -> None:
            check(self)

Fields that change only where and how fast a job runs (the number of workers, where the output goes) carry
``EXECUTION`` and are left out of the digest, so that the same work has the same digest wherever it is done.

A field may be such a dataclass itself: ``network.base_channels`` is ``--network.base-channels``. Whoever
builds the inner one for the outer one does so within ``options_below("network")``, so that messages name
the whole option.
"""

import contextlib
import contextvars
import dataclasses
import enum
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

from lungforge.errors import InputError
from lungforge.public_uri import require_public

#: Metadata of a dataclass field that has no influence on the results.
EXECUTION = {"execution": True}
#: Metadata of a switch that is left out of the identity while it is off: what was made before there was such
#: a switch stays the same work.
LEFT_OUT_WHEN_OFF = {"left_out_when_off": True}
#: Metadata of a tuple or text that must not be empty.
NOT_EMPTY = {"not_empty": True}

#: Numbers and switches, and what a value of the type is called in messages.
_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
}
_PREFIX: contextvars.ContextVar[str] = contextvars.ContextVar("prefix of options", default="")


@dataclasses.dataclass(frozen=True)
class _Range:
    """Which numbers a field takes, and that in words."""

    holds: Callable[[float], bool]
    words: str


def group(title: str) -> dict[str, Any]:
    """Metadata that puts a field under a heading of its own in the help of the command line."""
    return {"group": title}


def at_least(least: float) -> dict[str, Any]:
    """Metadata of numbers from ``least``; of a tuple, each of its numbers."""
    return _range(lambda value: value >= least, f"at least {least:g}")


def above(bound: float) -> dict[str, Any]:
    """Metadata of finite numbers above ``bound``."""
    return _range(lambda value: value > bound, f"a number above {bound:g}")


def between(least: float, most: float) -> dict[str, Any]:
    """Metadata of numbers from ``least`` to ``most``, both included."""
    return _range(lambda value: least <= value <= most, f"a number from {least:g} to {most:g}")


def from_to_below(least: float, bound: float) -> dict[str, Any]:
    """Metadata of numbers from ``least``, included, to ``bound``, excluded."""
    return _range(lambda value: least <= value < bound, f"at least {least:g} and below {bound:g}")


def _range(holds: Callable[[float], bool], words: str) -> dict[str, Any]:
    return {"range": _Range(lambda value: math.isfinite(value) and holds(value), words)}


def check(config: Any) -> None:
    """Refuse a configuration that breaks a rule of one of its fields: types, ranges, choices, emptiness.

    Types are checked of numbers, switches and tuples: a configuration may come from a JSON document. The
    choices of a field are those of its ``Literal`` type. None is allowed where the type has it. No text may
    have a password, token or signature in a URI, whatever the field.

    Raises:
        InputError: One line: the option, its value, and what would do.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), without_none(hints[field.name])
        for text in _texts(value):  # first, as the other messages quote the value
            require_public(option(field.name), text)
        if value is None and hint is not hints[field.name]:
            continue
        if field.metadata.get("not_empty") and not value:
            raise InputError(f"{option(field.name)} is empty; give at least one value")
        if typing.get_origin(hint) is tuple and not isinstance(value, tuple):
            raise InputError(f"{option(field.name)} is {_shown(value)}; give a list")
        choices = _choices(hint)
        rule: _Range | None = field.metadata.get("range")
        allowed, type_words = _TYPES.get(_element(hint), ((object,), ""))
        for item in value if isinstance(value, tuple) else (value,):
            # A bool is an int to Python, and no number to anybody else.
            fits = isinstance(item, allowed) and isinstance(item, bool) == (allowed == (bool,))
            if type_words and not fits:
                limits = "" if rule is None else f", {rule.words.removeprefix('a number ')}"
                raise InputError(f"{option(field.name)} is {_shown(value)}; give {type_words}{limits}")
            if rule is not None and not rule.holds(item):
                raise InputError(f"{option(field.name)} is {_shown(value)}; give {rule.words}")
            if choices and item not in choices:
                words = f"one of {', '.join(choices)}" if len(choices) > 2 else " or ".join(choices)
                raise InputError(f"{option(field.name)} is {_shown(value)}; choose {words}")


def option(name: str) -> str:
    """A field's name as an option of the command line: ``per_map`` is ``--per-map``."""
    return f"--{_PREFIX.get()}{name}".replace("_", "-")


@contextlib.contextmanager
def options_below(name: str) -> Iterator[None]:
    """Within the block, ``option`` names the options of the configuration in a field of that name."""
    token = _PREFIX.set(f"{_PREFIX.get()}{name}.")
    try:
        yield
    finally:
        _PREFIX.reset(token)


def without_none(hint: Any) -> Any:
    """``int`` for ``int | None``; other types as they are."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [argument for argument in typing.get_args(hint) if argument is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return hint


def _element(hint: Any) -> Any:
    """``int`` for ``tuple[int, ...]``; other types as they are."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[0]
    return hint


def _texts(value: Any) -> Iterator[str]:
    """The texts of a field, and of a tuple at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _texts(item)


def _choices(hint: Any) -> tuple[str, ...]:
    """The texts that a type allows, where it is a Literal, or a tuple of one."""
    element = _element(hint)
    if typing.get_origin(element) is Literal:
        return tuple(argument for argument in typing.get_args(element) if isinstance(argument, str))
    return ()


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def identity(config: Any) -> dict[str, Any]:
    """The fields of a configuration that decide its results, as JSON values.

    Args:
        config: A dataclass instance; its fields are JSON values, enums, tuples, or such dataclasses.

    Returns:
        Field name to value, without the fields marked ``EXECUTION`` and without those marked
        ``LEFT_OUT_WHEN_OFF`` that are off; tuples become lists.
    """
    return {
        field.name: _json_value(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if not field.metadata.get("execution")
        and not (field.metadata.get("left_out_when_off") and getattr(config, field.name) is False)
    }


def digest(document: dict[str, Any]) -> str:
    """The sha256, in hexadecimal, of a JSON document in its canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return identity(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a configuration holds JSON values, not {type(value).__name__}: {value!r}")

"""The options of a command as data: what the help prints, a config file may hold, and lists are split by.

All of it is read from the configuration dataclass: names, types, defaults, the text below each field, and in
its metadata the group that the help shows it in.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, Literal

import tyro

from lungforge.config import without_none

REQUIRED = "Required"
PLAIN = "Options"
#: The group of options without influence on the result: workers, GPUs, where things are kept.
RUNNING = "How it runs"


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        name: As in a config file, ``per_map`` or ``network.base_channels``.
        hint: Its type, without None.
        optional: Whether the type has None.
        default: Its default; ``tyro.MISSING`` where it has none.
        text: What it is for, in one line.
        group: The heading that the help shows it under.
        positional: What stands for it in the usage, where it has no name on the command line.
    """

    name: str
    hint: Any
    optional: bool
    default: Any
    text: str
    group: str
    positional: str | None = None

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return self.positional or f"--{self.name}".replace("_", "-")

    @property
    def values(self) -> str:
        """What stands for its value in the help: ``INT``, ``{png,coco}``, ``FLOAT FLOAT``, ``INT ...``."""
        if self.hint is bool or self.positional:
            return ""
        return _values(self.hint)

    @property
    def is_splittable(self) -> bool:
        """Whether its values may be separated by commas: lists of numbers or names, not of paths."""
        return typing.get_origin(self.hint) is tuple and str not in _leaves(self.hint)


def options_of(config_class: type, start: Any) -> list[Option]:
    """The options of a configuration, those of the configurations in its fields last.

    Args:
        config_class: The dataclass.
        start: An instance of it, or of a class with the same fields, whose values are the defaults.
    """
    options, nested = [], []
    hints = typing.get_type_hints(config_class, include_extras=True)
    texts = field_texts(config_class)
    for field in dataclasses.fields(config_class):
        value = getattr(start, field.name)
        if dataclasses.is_dataclass(value):
            inner_class: type = getattr(type(value), "checked", type(value))
            nested += [
                dataclasses.replace(
                    option, name=f"{field.name}.{option.name}", group=texts[field.name].rstrip(".")
                )
                for option in options_of(inner_class, value)
            ]
            continue
        hint, positional = _positional(hints[field.name])
        plain = without_none(hint)
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        group = REQUIRED if is_required else RUNNING if field.metadata.get("execution") else PLAIN
        options.append(
            Option(
                field.name,
                plain,
                plain is not hint,
                value,
                texts[field.name],
                field.metadata.get("group", group),
                positional,
            )
        )
    return options + nested


@functools.cache
def field_texts(config_class: type) -> dict[str, str]:
    """The text below each field of a dataclass, and of those that it inherits from, each in one line."""
    texts = dict.fromkeys((field.name for field in dataclasses.fields(config_class)), "")
    for each in reversed([each for each in config_class.__mro__ if dataclasses.is_dataclass(each)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = _text(following)
                if text is not None:
                    texts[statement.target.id] = text
    return texts


def _text(statement: ast.stmt) -> str | None:
    """The words of a text that stands by itself; None of any other statement."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return None
    return " ".join(str(statement.value.value).split())


def _positional(hint: Any) -> tuple[Any, str | None]:
    """A type without its annotations, and what stands for it in the usage if it is positional."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, None
    metavar = next((note.metavar for note in hint.__metadata__ if hasattr(note, "metavar")), None)
    return hint.__origin__, metavar if tyro.conf.Positional in hint.__metadata__ else None


def _values(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return f"{{{','.join(map(str, arguments))}}}"
    if typing.get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return f"{_values(arguments[0])} ..."
        return " ".join(map(_values, arguments))
    return {str: "TEXT", int: "INT", float: "FLOAT"}.get(hint, "VALUE")


def _leaves(hint: Any) -> Iterator[Any]:
    """The types that a tuple, at any depth, holds."""
    if typing.get_origin(hint) is tuple:
        for argument in typing.get_args(hint):
            yield from _leaves(argument)
    else:
        yield hint

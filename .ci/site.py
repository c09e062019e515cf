"""What MkDocs asks while it builds the site: tables of options, and links to code.

A line ``<!-- options: train -->`` of a page becomes the options of that command: names, values, defaults and
help of the configuration dataclasses, so no page repeats them by hand. ``<!-- presets: train -->`` becomes
its presets. A page links to files of the repository, for those who read it there; the site has none of these
files, so it shows their names only.
"""

import dataclasses
import html
import inspect
import posixpath
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import griffe
import tyro

from lungforge.models.registry import GENERATORS, load_generator
from services.cli.commands import COMMANDS, load

_MARKER = re.compile(r"^<!-- (options|presets): ([a-z-]+) -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_HEADER = ["option", "what it does", "values", "default"]
_POSITIONAL = typing.get_args(tyro.conf.Positional[int])[1]
_WORDS = {str: "text", int: "whole number", float: "number"}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a command, as a page shows it.

    Attributes:
        name: As on the command line, ``--patch``.
        help: What it is for.
        values: What it takes, in words.
        default: What holds without it; ``required`` where there is no such value.
    """

    name: str
    help: str
    values: str
    default: str


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put tables of options in, and take links to code out (a hook of MkDocs)."""
    tables = {"options": options_of, "presets": presets_of}
    markdown = _MARKER.sub(lambda match: tables[match[1]](match[2]), markdown)
    folder = posixpath.dirname(page.file.src_uri)

    def inside(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        return match[1] if target.startswith("../") else match[0]

    return _LINK.sub(inside, markdown)


def options_of(command: str) -> str:
    """The options of a command as Markdown.

    Args:
        command: A key of ``COMMANDS``.
    """
    config_class = load(COMMANDS[command].config)
    plain = [option for option in options(config_class) if "." not in option.name]
    if COMMANDS[command].presets:
        return _with_presets(command, plain)
    return _table(_HEADER, map(dataclasses.astuple, plain)) if plain else "It has no options of its own."


def presets_of(command: str) -> str:
    """The presets of a command as Markdown: what each is for is the first sentence of its function."""
    presets = _presets(command)
    rows = (
        (name, " ".join(str(make.__doc__).partition("\n\n")[0].split())) for name, make in presets.items()
    )
    return _table(["preset", "for"], rows)


def options(config_class: type, prefix: str = "--") -> Iterator[Option]:
    """The options of a configuration dataclass, and of those in its fields."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    helps = _helps(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        name = f"{prefix}{field.name.replace('_', '-')}"
        if _POSITIONAL in typing.get_args(hint)[1:]:
            name = field.name.upper()
        if field.default_factory is not dataclasses.MISSING:
            yield from options(type(field.default_factory()), f"{name}.")
            continue
        default = "required" if field.default is dataclasses.MISSING else shown(field.default)
        rule = field.metadata.get("range")
        yield Option(name, helps[field.name], _values(hint, rule.words if rule else ""), default)


def shown(value: Any) -> str:
    """A default as it is typed on the command line."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_presets(command: str, plain: list[Option]) -> str:
    """The options of a command with presets: what they decide stands beside one another."""
    presets = _presets(command)
    values = {name: _flat(make(data="-", out="-")) for name, make in presets.items()}
    decided = [o.name for o in plain if len({shown(of[o.name]) for of in values.values()}) > 1]
    lines = [
        _table(
            _HEADER,
            ((o.name, o.help, o.values, "by preset" if o.name in decided else o.default) for o in plain),
        ),
        "\nWhat the presets decide:\n",
        _table(
            ["option", *presets], ((name, *(shown(of[name]) for of in values.values())) for name in decided)
        ),
    ]
    for model in GENERATORS:
        spec = load_generator(model)
        its_own = [name for name in presets if name in spec.presets]
        values = {name: _flat(presets[name](data="-", out="-", model=model)) for name in its_own}
        inner = [
            *options(spec.network_options, "--network."),
            *options(spec.learner_options, "--learner."),
        ]
        lines += [
            f"\nWith `--model {model}`:\n",
            _table(
                ["option", "what it does", "values", *its_own],
                ((o.name, o.help, o.values, *(shown(of[o.name]) for of in values.values())) for o in inner),
            ),
        ]
    return "\n".join(lines)


def _presets(command: str) -> Mapping[str, Callable[..., Any]]:
    path = COMMANDS[command].presets
    assert path is not None
    presets: Mapping[str, Callable[..., Any]] = load(path)
    return presets


def _flat(config: Any, prefix: str = "--") -> dict[str, Any]:
    """The values of a configuration by option."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name.replace('_', '-')}", getattr(config, field.name)
        values |= _flat(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return values


def _helps(config_class: type) -> Mapping[str, str]:
    """The text below each field, where Python itself keeps none."""
    helps: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        path = Path(inspect.getfile(base))
        module = griffe.visit(base.__module__, filepath=path, code=path.read_text(encoding="utf-8"))
        for name, member in module[base.__name__].members.items():
            if member.docstring is not None:
                helps[name] = " ".join(member.docstring.value.split())
    return helps


def _values(hint: Any, rule: str) -> str:
    """A type and its range in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _values(inner[0], rule)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(_values(kind, rule) for kind in inner if kind is not type(None))
    if origin is typing.Literal:
        return ", ".join(map(str, inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return f"one or more: {_values(inner[0], rule)}"
    if origin is tuple:
        return " and ".join(f"({_values(kind, rule)})" for kind in inner)
    if hint is bool:
        return "switch"
    words = _WORDS[hint]
    return f"{words}, {rule.removeprefix('a number ')}" if rule else words


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header)]
    for name, *cells in rows:
        lines.append([f"`{name}`", *(html.escape(cell, quote=False).replace("|", "\\|") for cell in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

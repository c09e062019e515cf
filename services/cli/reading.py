"""How the arguments of a command, and the file of ``--config``, become its configuration.

What decides, from the least to the most: the preset, the file, the options on the command line.
"""

import contextlib
import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tyro

from lungforge.config import options_below
from lungforge.errors import InputError
from services.cli.config_file import ConfigFile
from services.cli.help import help_text
from services.cli.options import Option, options_of
from services.common.config_file import LEFT_OUT

#: Makes a configuration of the arguments without a default, and of the ``variants`` that are given.
Preset = Callable[..., Any]
_HELP = ("-h", "--help")


@dataclasses.dataclass(frozen=True)
class Form:
    """What the arguments of a command may be, and its help.

    Attributes:
        command: Its name.
        config_class: What they become.
        description: What it is for, in sentences.
        example: The arguments of an example.
        presets: Its named presets, if it has any.
        variants: The options that a preset depends on beside its name.
        takes_command: Whether its last argument is a command of its own, options and all.
    """

    command: str
    config_class: type
    description: str
    example: str
    presets: Mapping[str, Preset] = dataclasses.field(default_factory=dict)
    variants: tuple[str, ...] = ()
    takes_command: bool = False

    @property
    def prog(self) -> str:
        """How it is called."""
        return f"lungforge {self.command}"


@dataclasses.dataclass(frozen=True)
class _Choice:
    """What is read before the options: the file, the preset, and the options that the preset depends on."""

    file: ConfigFile | None
    preset: str | None
    variants: dict[str, Any]


def read(form: Form, arguments: Sequence[str]) -> Any:
    """The configuration that arguments describe; raises as ``services.cli.commands.execute`` does."""
    arguments, command = _split(form, arguments)
    choice, rest = _choose(form, arguments)
    if any(word in _HELP for word in rest):
        sys.stdout.write(_help(form, choice))
        raise SystemExit(0)
    start = _start(form, choice)
    options = _by_name(form.config_class, start)
    # tyro frames what a constructor raises; ours are sentences of one line. So tyro reads into a class
    # without checks, and the checks run when the real configuration is made from it.
    read: Any = tyro.cli(
        unchecked_class(form.config_class),
        args=[*_at_commas(rest, options.values()), *command],
        prog=form.prog,
        default=start,
        add_help=False,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return _checked(read)


def _help(form: Form, choice: _Choice) -> str:
    carrier = _carrier(form, choice)
    options = list(_by_name(form.config_class, carrier).values())
    if form.presets and choice.preset is None:
        others = [_by_name(form.config_class, made) for made in _possible(form, choice)]
        decided = {
            option.name for option in options if any(o[option.name].default != option.default for o in others)
        }
    else:
        decided = set()
    return help_text(
        form.prog, form.description, f"{form.prog} {form.example}", options, form.presets, decided
    )


def _choose(form: Form, arguments: Sequence[str]) -> tuple[_Choice, list[str]]:
    """The choice, and the other arguments."""
    types: dict[str, Any] = {"config": str}
    if form.presets:
        hints = typing.get_type_hints(form.config_class)
        types |= {"preset": str, **{name: hints[name] for name in form.variants}}
    fields = [(name, kind | None, dataclasses.field(default=None)) for name, kind in types.items()]
    found: Any
    found, rest = tyro.cli(
        dataclasses.make_dataclass("Choice", fields),
        args=list(arguments),
        prog=form.prog,
        add_help=False,
        return_unknown_args=True,
    )
    values = dataclasses.asdict(found)
    uri, preset = values.pop("config"), values.pop("preset", None)
    file = None if uri is None else ConfigFile.read(uri)
    if file is not None and form.presets:
        values = {
            name: file.value(name, types[name]) if value is None else value for name, value in values.items()
        }
        preset = preset or file.value("preset", str)
        remaining = {name: value for name, value in file.values.items() if name != "preset"}
        file = dataclasses.replace(file, values=remaining)
    if preset is not None and preset not in form.presets:
        raise InputError(f"--preset is {preset!r}; choose one of {', '.join(form.presets)}")
    return _Choice(file, preset, {name: value for name, value in values.items() if value is not None}), rest


def _start(form: Form, choice: _Choice) -> Any:
    """What the options on the command line change: preset and file, and MISSING where both say nothing."""
    start = _carrier(form, choice)
    options = _by_name(form.config_class, start)
    given = {} if choice.file is None else choice.file.converted(options)
    if form.presets and choice.preset is None:
        missing = [name for name in options if name not in given and not _is_open(form.config_class, name)]
        if missing:
            also = "" if choice.file is None else f", as {choice.file.uri} has no {missing[0]}"
            raise InputError(f"give a --preset{also}: {', '.join(form.presets)} ({form.prog} --help)")
    for name, value in given.items():
        if name not in choice.variants:
            *outer, inner = name.split(".")
            object.__setattr__(functools.reduce(getattr, outer, start), inner, value)
    return start


def _is_open(config_class: type, name: str) -> bool:
    """Whether a complete file may lack a field: it is never in one, is required, or None by default."""
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    return name in LEFT_OUT or (name in fields and (fields[name].default is None or _required(fields[name])))


def _carrier(form: Form, choice: _Choice) -> Any:
    """An instance without checks: of the preset, of the first one where none is named, or of the defaults."""
    if form.presets:
        possible = _possible(form, choice) if choice.preset is None else []
        return possible[0] if possible else _preset(form, choice.preset or next(iter(form.presets)), choice)
    defaults = {}
    for field in dataclasses.fields(form.config_class):
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
            defaults[field.name] = _unchecked(value) if dataclasses.is_dataclass(value) else value
        else:
            defaults[field.name] = tyro.MISSING if _required(field) else field.default
    return unchecked_class(form.config_class)(**defaults)


def _possible(form: Form, choice: _Choice) -> list[Any]:
    """What each preset gives; a generator may lack some."""
    made = []
    for name in form.presets:
        with contextlib.suppress(InputError):
            made.append(_preset(form, name, choice))
    return made


def _preset(form: Form, name: str, choice: _Choice) -> Any:
    """What a preset gives, without checks, and with MISSING in the place of what has no default."""
    required = [field.name for field in dataclasses.fields(form.config_class) if _required(field)]
    made = _unchecked(form.presets[name](**dict.fromkeys(required, "-"), **choice.variants))
    for each in required:
        object.__setattr__(made, each, tyro.MISSING)
    return made


def _by_name(config_class: type, start: Any) -> dict[str, Option]:
    return {option.name: option for option in options_of(config_class, start)}


def _at_commas(arguments: Iterable[str], options: Iterable[Option]) -> list[str]:
    """The arguments with lists of numbers or names in words of their own: ``0,1`` is ``0 1``."""
    lists = {option.flag for option in options if option.is_splittable}
    words: list[str] = []
    inside = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            inside = name.replace("_", "-") in lists
            argument = value if inside and equals else argument
            if inside:
                words.append(name)
                if not equals:
                    continue
        words += filter(None, argument.split(",")) if inside else [argument]
    return words


@functools.cache
def unchecked_class(config_class: type) -> type:
    """The same dataclass without the checks of its constructor."""
    members = {"__post_init__": lambda self: None, "__doc__": config_class.__doc__, "checked": config_class}
    return type(config_class.__name__, (config_class,), members)


def _unchecked(config: Any) -> Any:
    """A configuration, and those in its fields, without their checks."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    inner = {name: _unchecked(value) for name, value in values.items() if dataclasses.is_dataclass(value)}
    config_class: Any = type(config)
    unchecked: Any = unchecked_class(config_class)
    return unchecked(**values | inner)


def _checked(unchecked: Any) -> Any:
    """The configuration with its checks; raises ``InputError`` where it is wrong."""
    values = {field.name: getattr(unchecked, field.name) for field in dataclasses.fields(unchecked)}
    for name, value in values.items():
        if dataclasses.is_dataclass(value):
            with options_below(name):
                values[name] = _checked(value)
    return getattr(unchecked, "checked", type(unchecked))(**values)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _split(form: Form, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those from the first that is no option and no option's value."""
    if not form.takes_command:
        return list(arguments), []
    flags = {f"--{field.name}" for field in dataclasses.fields(form.config_class) if field.default is False}
    before = ""
    for position, word in enumerate(arguments):
        is_value = before.startswith("--") and "=" not in before and before not in flags
        if not word.startswith("-") and not is_value:
            return list(arguments[:position]), ["--", *arguments[position:]]
        before = word
    return list(arguments), []

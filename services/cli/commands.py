"""The commands of ``lungforge``: what each is for, and how its arguments become a configuration.

The configuration dataclasses are the only truth: names, defaults and help texts of the command line are
theirs. Modules are imported when a command needs them, so that ``--help`` answers at once.
"""

import dataclasses
import functools
import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from lungforge.config import options_below
from lungforge.errors import InputError
from lungforge.extras import require_extras
from lungforge.public_uri import public_json, public_text, require_public


@dataclasses.dataclass(frozen=True)
class Command:
    """One word of the command line.

    Attributes:
        summary: What it does, in a line.
        config: Where its configuration dataclass is, as ``module:name``.
        run: Where the function is that takes the configuration and returns a result dataclass.
        presets: Where its named presets are, if it has any: name to a function that takes the arguments of
            the configuration that have no default, and those of ``variants`` that are given, and returns a
            configuration. The name None is what holds without a preset.
        variants: The options that a preset depends on beside its name.
        notes: What else its help says before the options.
        takes_command: Whether its last argument is a command of its own, options and all.
        extras: What it needs beside the core, by the names of ``pyproject.toml``.
    """

    summary: str
    config: str
    run: str
    presets: str | None = None
    variants: tuple[str, ...] = ()
    notes: str = ""
    takes_command: bool = False
    extras: tuple[str, ...] = ()


#: Items of a list that are printed for a person.
LISTED = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

COMMANDS = {
    "demo": Command(
        "all of the below on synthetic phantoms: from nothing to a report, in minutes",
        "services.tools.demo:DemoConfig",
        "services.tools.demo:run",
        extras=("train", "eval"),
    ),
    "phantom": Command(
        "generate a small data set of synthetic phantoms in the layout of LUNA16",
        "services.tools.phantom:PhantomConfig",
        "services.tools.phantom:run",
    ),
    "preprocess": Command(
        "turn LUNA16 volumes into slices and semantic maps",
        "services.preprocess.config:PreprocessConfig",
        "services.preprocess.job:run",
    ),
    "train": Command(
        "train a generator on slices and maps",
        "services.train.config:TrainConfig",
        "services.train.job:run",
        presets="services.train.presets:PRESETS",
        variants=("model", "workers"),
        extras=("train",),
    ),
    "ema": Command(
        "make a model with weights averaged over another stretch of its training",
        "services.tools.ema:EmaConfig",
        "services.tools.ema:run",
        extras=("sample",),
    ),
    "import-checkpoint": Command(
        "turn a network that was trained elsewhere into a model to sample with",
        "services.tools.import_checkpoint:ImportConfig",
        "services.tools.import_checkpoint:run",
        extras=("sample",),
    ),
    "models": Command(
        "list the models and label maps that come with LungForge, and how to use them",
        "services.tools.models:ModelsConfig",
        "services.tools.models:run",
    ),
    "sample": Command(
        "sample synthetic slices from maps",
        "services.sample.config:SampleConfig",
        "services.sample.job:run",
        extras=("sample",),
    ),
    "evaluate": Command(
        "measure synthetic slices against real ones, and write a report",
        "services.eval.config:EvalConfig",
        "services.eval.job:run",
        extras=("eval",),
    ),
    "nightly": Command(
        "evaluate the newest model of a store, append to its history, and say whether it got worse",
        "services.nightly.config:NightlyConfig",
        "services.nightly.job:run",
        notes="A night is worse, and the exit code 3, when Fréchet distance, KID or near-duplicates are "
        "above mean + 3 spreads of the last 14 good nights (4 at least). The same date again does nothing "
        "when the night is done, and resumes it otherwise. A lease keeps two runs at once apart.",
        extras=("eval",),
    ),
    "submit": Command(
        "run one of these on a Ray cluster, follow its log, and leave with its exit code",
        "services.submit.config:SubmitConfig",
        "services.submit.job:run",
        notes="Its own options stand before the stage: lungforge submit --address URL train --data URI ... "
        "The same command again attaches to the job that runs, or resumes one that has failed. "
        "Ctrl-C leaves the job running.",
        takes_command=True,
        extras=("ray",),
    ),
    "show": Command(
        "say what a dataset is and what it was made from; make a contact sheet",
        "services.tools.show:ShowConfig",
        "services.tools.show:run",
    ),
    "score-candidates": Command(
        "score a detector's candidates for nodules by the rules of LUNA16",
        "services.tools.score_candidates:ScoreConfig",
        "services.tools.score_candidates:run",
        notes="The result is sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan, their mean "
        "(CPM), and 95 % intervals from 1,000 bootstraps over the scans. Nothing is written.",
    ),
    "export": Command(
        "write a dataset's images for other programs: PNG, COCO, MetaImage, class folders",
        "services.export.config:ExportConfig",
        "services.export.job:run",
    ),
}


def execute(name: str, arguments: Sequence[str]) -> Any:
    """Run one command to its end.

    Args:
        name: A key of ``COMMANDS``.
        arguments: Its options, as on the command line.

    Returns:
        The result of the command, a dataclass instance; a dict where another process had it.

    Raises:
        InputError: An argument, or something that it names, is wrong; or the command needs an extra.
        SystemExit: ``--help`` was asked for (code 0), or an option is unknown or malformed (code 2).
    """
    command = COMMANDS[name]
    require_extras(command.extras, "this command")
    config = parse(name, arguments)
    run: Callable[[Any], Any] = load(command.run)
    return run(config)


def parse(name: str, arguments: Sequence[str]) -> Any:
    """The configuration that a command's arguments describe; raises as ``execute`` does."""
    _require_public(arguments)
    command, prog = COMMANDS[name], f"lungforge {name}"
    config_class = load(command.config)
    default = None
    if command.takes_command:
        arguments = _hold_together(config_class, arguments)
    description = f"{command.summary[0].upper()}{command.summary[1:]}. {command.notes}".rstrip()
    if command.presets:
        presets = load(command.presets)
        types = {field.name: field.type for field in dataclasses.fields(config_class)}
        asked = {"preset": str, **{name: types[name] for name in command.variants}}
        choice, arguments = _choice(arguments, prog, asked)
        preset = choice.pop("preset")
        names = list(filter(None, presets))
        if preset not in presets:
            raise InputError(f"--preset is {preset!r}; choose one of {', '.join(names)}")
        description += f" --preset {{{','.join(names)}}} sets the values that the options then change."
        # What the preset decides is everything but the options without a default.
        required = {field.name: "-" for field in dataclasses.fields(config_class) if _required(field)}
        chosen = {name: value for name, value in choice.items() if value is not None}
        default = presets[preset](**required, **chosen)
    return _read(config_class, arguments, prog=prog, description=description, default=default)


def _require_public(arguments: Sequence[str]) -> None:
    """Refuse secrets in URIs before tyro quotes an argument that it does not understand."""
    option = "an argument"
    for word in arguments:
        if word.startswith("--"):
            option = public_text(word.partition("=")[0])
        require_public(option, word)


def _read(config_class: type, arguments: Sequence[str], *, prog: str, description: str, default: Any) -> Any:
    """The configuration that the arguments describe, starting from a default one, if there is one."""
    # tyro frames what a constructor raises; ours are sentences of one line. So tyro reads into a class
    # without checks, and the checks run when the real configuration is made from it.
    start = None
    if default is not None:
        start = _unchecked(default)
        for field in filter(_required, dataclasses.fields(config_class)):
            object.__setattr__(start, field.name, tyro.MISSING)
    read = tyro.cli(
        _unchecked_class(config_class),
        args=list(arguments),
        prog=prog,
        description=description,
        default=start,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return _checked(read)


@functools.cache
def _unchecked_class(config_class: type) -> type:
    """The same dataclass without the checks of its constructor."""
    members = {"__post_init__": lambda self: None, "__doc__": config_class.__doc__, "checked": config_class}
    return type(config_class.__name__, (config_class,), members)


def _unchecked(config: Any) -> Any:
    """A configuration, and those in its fields, without their checks."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    inner = {name: _unchecked(value) for name, value in values.items() if dataclasses.is_dataclass(value)}
    config_class: Any = type(config)
    unchecked: Any = _unchecked_class(config_class)
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


def _hold_together(config_class: type, arguments: Sequence[str]) -> list[str]:
    """The arguments with a ``--`` before the first that is no option and no option's value."""
    flags = {f"--{field.name}" for field in dataclasses.fields(config_class) if field.default is False}
    before = ""
    for position, word in enumerate(arguments):
        is_value = before.startswith("--") and "=" not in before and before not in flags
        if not word.startswith("-") and not is_value:
            return [*arguments[:position], "--", *arguments[position:]]
        before = word
    return list(arguments)


def _choice(
    arguments: Sequence[str], prog: str, types: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The values of some options of some types, None where they are not given; and the other arguments."""
    fields = [(name, kind | None, dataclasses.field(default=None)) for name, kind in types.items()]
    choice: Any
    choice, rest = tyro.cli(
        dataclasses.make_dataclass("Choice", fields),
        args=list(arguments),
        prog=prog,
        add_help=False,
        return_unknown_args=True,
    )
    return dataclasses.asdict(choice), rest


def load(path: str) -> Any:
    """What a path of a ``Command``, ``module:name``, leads to."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def overview() -> str:
    """What ``lungforge --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [
        "usage: lungforge COMMAND [options]",
        "",
        "Synthetic chest CT from semantic maps, and an honest measure of its worth.",
        "",
        *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
        "",
        "lungforge COMMAND --help tells a command's options. --json prints the result as one JSON line.",
        "Datasets are folders at a path or URI (s3://bucket/folder; the usual AWS_ variables are read).",
        "Jobs run on the Ray cluster that RAY_ADDRESS names, else on this machine (see submit).",
        "Exit codes: 0 done, 1 failure, 2 usage or bad input, 3 worse (nightly), 130 interrupted.",
    ]
    return "\n".join(lines)


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
    # What others wrote into a manifest must not move the cursor of a terminal.
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], str(value))

"""``lungforge completion``: a script by which a shell completes commands, options and values."""

import contextlib
import dataclasses
import io
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from lungforge.config import check
from lungforge.errors import InputError
from services.cli.commands import COMMANDS, form_of
from services.cli.reading import unchecked_class


@dataclasses.dataclass(frozen=True)
class CompletionConfig:
    """Print a completion script for a shell."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional, tyro.conf.arg(metavar="SHELL")]
    """The shell to print it for: bash, zsh or fish."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class CompletionResult:
    """The script, to be read by the shell when it starts."""

    shell: str
    script: str

    @property
    def text(self) -> str:
        """What is printed, to be sent to a file or to the shell itself."""
        return self.script


def run(config: CompletionConfig) -> CompletionResult:
    """Make the script from the options of all commands."""
    printed = io.StringIO()
    completed: dict[str, Callable[..., Any]] = {}
    for name in COMMANDS:
        # A command whose extra is not installed is not there to be completed.
        with contextlib.suppress(ImportError, InputError):
            completed[name] = _completed(name)
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            completed,
            prog="lungforge",
            args=["--tyro-print-completion", config.shell],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    return CompletionResult(config.shell, printed.getvalue())


def _completed(name: str) -> type:
    """The configuration of a command with the options that are not in it."""
    form = form_of(name)
    further: list[tuple[str, Any, Any]] = [
        ("config", str | None, dataclasses.field(default=None, kw_only=True)),
        ("json", bool, dataclasses.field(default=False, kw_only=True)),
    ]
    if form.presets:
        preset = Literal[tuple(form.presets)]  # type: ignore[valid-type]
        further.append(("preset", preset | None, dataclasses.field(default=None, kw_only=True)))
    return dataclasses.make_dataclass(name, further, bases=(unchecked_class(form.config_class),), frozen=True)

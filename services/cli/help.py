"""The help of a command: what it is for, an example, the presets, and the options in groups."""

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from services.cli.options import PLAIN, REQUIRED, RUNNING, Option

#: Longer lines are hard to read.
_WIDEST = 120
#: Where the texts begin, and what a longer option leaves to a line of its own.
_INDENT = 28
#: A space where no line ends.
_HELD = "\N{NO-BREAK SPACE}"
_EVERY_COMMAND = (
    ("--config FILE", "Read options from a TOML file; those on the command line win."),
    ("--json", "Print the result as one line of JSON."),
    ("-h, --help", "Print this help."),
)


def help_text(
    prog: str,
    description: str,
    example: str,
    options: Iterable[Option],
    presets: Mapping[str, Callable[..., Any]],
    decided: set[str],
) -> str:
    """The help as it is printed, with colours where stdout is a terminal.

    Args:
        prog: How the command is called.
        description: What it is for, in sentences.
        example: A command line.
        options: Its options.
        presets: Its presets; the first line of what each says is shown.
        decided: Names of the options whose default is the preset's.
    """
    terminal, width = Console(), _width()
    text = Text()
    positional = [option.flag for option in options if option.positional]
    _write(text, " ".join(["usage:", prog, "[options]", *positional]), width, style="bold")
    text.append("\n")
    _write(text, description, width)
    text.append("\nExample:\n", style="bold")
    _write_command(text, example, width)
    if presets:
        text.append("\nPreset\n", style="bold")
        flag = f"--preset {{{','.join(presets)}}}"
        _row(text, flag, "Sets the options for a purpose; the options given beside it win.", width)
        for name, preset in presets.items():
            summary = " ".join((preset.__doc__ or "").split("\n\n")[0].split())
            _row(text, "", f"{name}: {summary}", width)
    for title, members in _groups(options):
        text.append(f"\n{title}\n", style="bold")
        for option in members:
            head = f"{option.flag} {option.values}".rstrip()
            _row(text, head, f"{option.text} {_default(option, decided)}".rstrip(), width)
    text.append("\nEvery command\n", style="bold")
    for head, words in _EVERY_COMMAND:
        _row(text, head, words, width)
    target = io.StringIO()
    console = Console(
        file=target,
        width=width,
        force_terminal=terminal.is_terminal,
        no_color=terminal.no_color,
        highlight=False,
        soft_wrap=True,
    )
    console.print(text, end="")
    return target.getvalue()


def _groups(options: Iterable[Option]) -> Iterator[tuple[str, list[Option]]]:
    """Required options first, then groups in the order of their first options, how it runs, the nested."""
    groups: dict[str, list[Option]] = {REQUIRED: [], PLAIN: []}
    for option in sorted(options, key=lambda option: (option.group == RUNNING) + 2 * ("." in option.name)):
        groups.setdefault(option.group, []).append(option)
    yield from ((title, members) for title, members in groups.items() if members)


def _default(option: Option, decided: set[str]) -> str:
    if option.name in decided:
        return f"(default:{_HELD}the{_HELD}preset's)"
    value = option.default
    if value is tyro.MISSING or value is None or value is False or value == ():
        return ""
    return f"(default: {_plain(value)})".replace(" ", _HELD)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(text: Text, head: str, words: str, width: int) -> None:
    head = f"  {head}"
    if len(head) > _INDENT - 2:
        text.append(f"{head}\n", style="cyan")
        head = ""
    first, *rest = _lines(words, width, _INDENT * " ", _INDENT) or [""]
    text.append(head.ljust(_INDENT), style="cyan")
    for line in (first[_INDENT:], *rest):
        text.append(line.replace(_HELD, " ") + "\n")


def _write_command(text: Text, command: str, width: int) -> None:
    """A command line in one line, or with an option and its values in each."""
    if len(command) + 2 <= width:
        text.append(f"  {command}\n")
        return
    text.append("  " + command.replace(" --", " \\\n      --") + "\n")


def _write(text: Text, words: str, width: int, style: str = "") -> None:
    for line in _lines(words, width):
        text.append(line + "\n", style=style)


def wrapped(words: str, *, first: str = "", indent: int = 0) -> list[str]:
    """Words in lines of the terminal's width.

    Args:
        words: What is written.
        first: What the first line begins with.
        indent: Spaces that the others begin with.
    """
    return _lines(words, _width(), first, indent)


def _width() -> int:
    return min(Console().width, _WIDEST)


def _lines(words: str, width: int, first: str = "", indent: int = 0) -> list[str]:
    return textwrap.wrap(
        words,
        width,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )

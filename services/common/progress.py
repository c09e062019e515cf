"""Progress of long work: a bar on a terminal, a log line every so often elsewhere. All on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lungforge.public_uri import public_message

#: Seconds between two log lines where stderr is not a terminal.
LOG_INTERVAL_S = 10.0


class Advance(Protocol):
    """Say that some of the work is done; the note, when given, stands beside the counts."""

    def __call__(self, count: int = 1, *, note: str = "") -> None:
        """Count ``count`` more units as done."""


def say(message: str) -> None:
    """One line of talk, without secrets, on stderr; stdout is for results."""
    print(public_message(message), file=sys.stderr, flush=True)  # noqa: T201


class NotedProgress(Progress):
    """Bars with the note of each below it, where a long one takes the room of none of them."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """See ``Progress``."""
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields["note"]:
                yield Text(task.fields["note"])


@contextmanager
def progress(title: str, total: int, *, done: int = 0, unit: str = "") -> Iterator[Advance]:
    """Show the progress of ``total`` units of work, of which ``done`` are done already.

    Yields:
        A function to call after each piece.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with NotedProgress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=done, note="")

            def advance_bar(count: int = 1, *, note: str = "") -> None:
                bar.update(task, advance=count, note=note)

            yield advance_bar
        return
    started = last = time.monotonic()
    finished = done

    def advance_log(count: int = 1, *, note: str = "") -> None:
        nonlocal last, finished
        finished += count
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_S or finished == total:
            last = now
            rate = (finished - done) / max(now - started, 1e-9)
            left = (total - finished) / rate if rate else float("inf")
            say(
                f"{title}: {finished}/{total} {unit} ({rate:.3g} a second, {left:.0f} s left) {note}".rstrip()
            )

    yield advance_log

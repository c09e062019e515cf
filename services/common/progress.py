"""Progress of long work: a bar on a terminal, a log line every so often elsewhere. All on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from lungforge.public_uri import public_message
from services.common.pace import Pace, duration, speed

#: Seconds between two log lines where stderr is not a terminal.
LOG_INTERVAL_S = 10.0
#: Each is a little work for the machine that does the real one.
_REFRESHES_PER_SECOND = 4


class Advance(Protocol):
    """Say that some of the work is done; the note, when given, stands beside the rate."""

    def __call__(self, count: int = 1, *, note: str = "") -> None:
        """Count ``count`` more units as done."""


def say(message: str) -> None:
    """One line of talk, without secrets, on stderr; stdout is for results."""
    print(public_message(message), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def waiting(what: str, *, logged: bool = True) -> Iterator[None]:
    """Say what the block waits for, and on a terminal for how long, so that nobody takes it for hung.

    Args:
        what: Such as "starting Ray".
        logged: Whether it is said elsewhere than on a terminal, too.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        if logged:
            say(f"{what} ...")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description} ..."), TimeElapsedColumn())
    refreshes = _REFRESHES_PER_SECOND
    with Progress(*columns, console=console, transient=True, refresh_per_second=refreshes) as shown:
        shown.add_task(what, total=None)
        yield


class WorkProgress(Progress):
    """A bar with the counts; below it the rate, the time left, and a note, which never squeeze the counts.

    Args:
        console: Where it is shown.
        unit: What is counted, in the plural.
        start: Says what is waited for until the first unit is done.
    """

    def __init__(self, console: Console, unit: str, start: str) -> None:
        self._unit, self._start = unit, start
        super().__init__(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            _Counts(unit),
            console=console,
            expand=True,
            refresh_per_second=_REFRESHES_PER_SECOND,
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        """See ``Progress``."""
        for task in self.tasks:
            yield self.make_tasks_table([task])
            yield Text(f"  {self._status(task)}", style="dim")

    def _status(self, task: Task) -> str:
        now, elapsed = self.get_time(), task.elapsed or 0.0
        pace: Pace = task.fields["pace"]
        rate = pace.rate(now)
        if rate is None:
            return f"{self._start} · {duration(elapsed)}" if self._start else duration(elapsed)
        assert task.total is not None
        if task.completed >= task.total:
            words = [f"took {duration(elapsed)}"]
        else:
            left = pace.left(now, int(task.total))
            assert left is not None
            words = [speed(rate, self._unit), f"{duration(left)} left", f"{duration(elapsed)} so far"]
        return " · ".join([*words, *filter(None, [task.fields["note"]])])


class _Counts(ProgressColumn):
    """How many of how many, in full at every width."""

    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed):,}/{int(task.total or 0):,} {self._unit}".rstrip())


@contextmanager
def progress(title: str, total: int, *, done: int = 0, unit: str = "", start: str = "") -> Iterator[Advance]:
    """Show the progress of ``total`` units of work, of which ``done`` are done already.

    Args:
        title: What is done.
        total: Units of work.
        done: Units that are done already.
        unit: What they are, in the plural.
        start: What is waited for until the first is done, such as "loading the model".

    Yields:
        A function to call after each piece.
    """
    last, finished = time.monotonic(), done
    pace = Pace(last, done)
    console = Console(stderr=True)
    if console.is_terminal:
        with WorkProgress(console, unit, start) as bar:
            task = bar.add_task(title, total=total, completed=done, note="", pace=pace)

            def advance_bar(count: int = 1, *, note: str = "") -> None:
                nonlocal finished
                finished += count
                pace.add(time.monotonic(), finished)
                bar.update(task, advance=count, note=note)

            yield advance_bar
        return
    if start:
        say(f"{title}: {start} ...")

    def advance_log(count: int = 1, *, note: str = "") -> None:
        nonlocal last, finished
        finished += count
        now = time.monotonic()
        pace.add(now, finished)
        if now - last >= LOG_INTERVAL_S or finished == total:
            last = now
            rate, left = pace.rate(now) or 0.0, pace.left(now, total)
            words = "" if left is None else f", {duration(left)} left"
            say(f"{title}: {finished}/{total} {unit} ({rate:.3g} a second{words}) {note}".rstrip())

    yield advance_log

"""Progress: on a terminal a bar whose counts are never squeezed, elsewhere few lines; all on stderr."""

import io
import sys

import pytest
from rich.console import Console

from services.common import progress as progress_module
from services.common.pace import Pace
from services.common.progress import WorkProgress, progress, say, waiting


def test_talk_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("a word")
    assert capsys.readouterr() == ("", "a word\n")


def test_a_log_line_every_so_often_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))  # each look at the clock is four seconds after the last
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: float(next(clock)))
    with progress("draw", 7, done=2, unit="images") as advance:
        for _ in range(5):
            advance(note="loss 0.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    # Looks at 4, 8, 12, 16 and 20 s: a line at 12 (ten seconds after the start), and the last.
    assert captured.err.splitlines() == [
        "draw: 5/7 images (0.25 a second, 8 s left) loss 0.5",
        "draw: 7/7 images (0.25 a second, 0 s left) loss 0.5",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """Stands for stderr from now on."""
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def _lines(bar: WorkProgress) -> list[str]:
    with bar.console.capture() as capture:
        bar.console.print(bar.get_renderable())
    return capture.get().splitlines()


def _bar(width: int, *, done: int = 0, advances: int = 0, note: str = "", start: str = "") -> WorkProgress:
    """A bar of 80,000 steps whose clock stands still, after advances of a second each."""
    console = Console(width=width, force_terminal=True, color_system=None)
    bar = WorkProgress(console, "steps", start)
    pace = Pace(0.0, done)
    for second in range(1, advances + 1):
        pace.add(float(second), done + 2 * second)
    bar.get_time = lambda: float(advances)  # type: ignore[method-assign]
    bar.add_task("train", total=80_000, completed=done + 2 * advances, note=note, pace=pace)
    return bar


@pytest.mark.parametrize("width", [60, 80, 120])
def test_counts_rate_and_time_left_have_room_at_every_width(width: int) -> None:
    first, second, *rest = _lines(_bar(width, done=700, advances=30, note="loss 0.0231, error 61 HU"))
    assert first.startswith("train ")
    assert first.endswith("760/80,000 steps")
    assert len(first) == width
    assert second.startswith("  2 steps/s · 11 h 00 min left · 0 s so far · ")  # 79,240 steps at 2 a second
    assert " ".join([second, *rest]).split()[-5:] == ["loss", "0.0231,", "error", "61", "HU"]
    assert len(rest) == (width == 60)


def test_a_long_note_takes_further_lines_and_no_room_of_the_counts() -> None:
    note = " ".join(f"metric_{index} {index}.25" for index in range(12))
    first, second, *rest = _lines(_bar(80, advances=10, note=note))
    assert first.endswith("20/80,000 steps")
    assert "left" in second
    assert " ".join(" ".join([second, *rest]).split()).endswith(note)


def test_before_the_first_unit_the_bar_says_what_it_waits_for_and_how_long() -> None:
    assert _lines(_bar(80, start="loading the model"))[1].strip() == "loading the model · 0 s"
    assert _lines(_bar(80))[1].strip() == "0 s"


def test_a_bar_on_a_terminal_ends_with_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("export", 3, unit="rows") as advance:
        for _ in range(3):
            advance()
    assert "3/3 rows" in terminal.getvalue()
    assert "took 0 s" in terminal.getvalue()


def test_waiting_shows_what_for_on_a_terminal_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with waiting("starting Ray"):
        pass
    assert "starting Ray ..." in terminal.getvalue()
    assert not terminal.getvalue().endswith("\n"), "the line is taken away"


def test_elsewhere_waiting_is_a_line_or_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("starting Ray"):
        assert capsys.readouterr().err == "starting Ray ...\n"
    with waiting("loading", logged=False):
        pass
    with progress("sample", 4, unit="images", start="loading the model"):
        pass
    assert capsys.readouterr() == ("", "sample: loading the model ...\n")


def test_waiting_may_be_put_before_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    @waiting("measuring")
    def measured() -> int:
        return 7

    assert (measured(), measured()) == (7, 7)
    assert capsys.readouterr().err == "measuring ...\nmeasuring ...\n"

"""Progress where nobody looks at a terminal: few lines, on stderr, with the rate and the time left."""

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn

from services.common import progress as progress_module
from services.common.progress import NotedProgress, progress, say


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


def test_a_long_note_leaves_the_counts_legible_on_a_narrow_terminal() -> None:
    console = Console(width=80, force_terminal=True, color_system=None)
    bar = NotedProgress(BarColumn(), MofNCompleteColumn(), console=console)
    note = " ".join(f"metric_{index} {index}.25" for index in range(12))
    bar.add_task("train", total=3000, completed=700, note=note)
    with console.capture() as capture:
        console.print(bar.get_renderable())
    first, *rest = capture.get().splitlines()
    assert "700/3000" in first
    assert " ".join(" ".join(rest).split()) == note

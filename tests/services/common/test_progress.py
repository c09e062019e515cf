"""Progress where nobody looks at a terminal: few lines, on stderr, with the rate and the time left."""

import pytest

from services.common import progress as progress_module
from services.common.progress import progress, say


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

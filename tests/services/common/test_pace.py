"""The rate of recent work, compared with sums written out."""

import pytest

from services.common.pace import LEAST_ADVANCES, WINDOW_S, Pace, duration, speed


def test_nothing_is_known_before_the_first_unit() -> None:
    pace = Pace(100.0, 5)
    assert pace.rate(110.0) is None
    assert pace.left(110.0, 50) is None


def test_what_was_done_before_counts_for_nothing() -> None:
    pace = Pace(100.0, 5)
    pace.add(104.0, 7)
    assert pace.rate(104.0) == pytest.approx(2 / 4)
    assert pace.left(104.0, 17) == pytest.approx(10 / 0.5)


def test_a_slow_beginning_is_forgotten() -> None:
    """Ten minutes for the first step, then a step a second: an hour's work is an hour, not weeks."""
    pace = Pace(0.0, 0)
    pace.add(600.0, 1)
    for second in range(1, 121):
        pace.add(600.0 + second, 1 + second)
    assert pace.rate(720.0) == pytest.approx(1.0, rel=0.02)
    assert pace.left(720.0, 3721) == pytest.approx(3600, rel=0.02)


def test_slow_work_is_averaged_over_several_units() -> None:
    """Units of 100 and of 300 s in turn: a window of a minute would hold one of them."""
    pace, now = Pace(0.0, 0), 0.0
    for unit in range(1, 21):
        now += 100 if unit % 2 else 300
        pace.add(now, unit)
    assert WINDOW_S < 100
    assert pace.rate(now) == pytest.approx(1 / 200, rel=1 / LEAST_ADVANCES)


def test_the_rate_falls_while_nothing_is_done() -> None:
    pace = Pace(0.0, 0)
    for second in range(1, 31):
        pace.add(float(second), second)
    assert pace.rate(60.0) == pytest.approx(30 / 60)


def test_quick_work_takes_no_memory() -> None:
    pace = Pace(0.0, 0)
    for unit in range(1, 10_001):
        pace.add(unit / 1000, unit)
    assert len(pace._samples) < 30
    assert pace.rate(10.0) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (8040, "2 h 14 min"),
        (190_000, "2 d 4 h"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_rates_in_words() -> None:
    assert speed(3.14159, "steps") == "3.14 steps/s"
    assert speed(0.08, "volumes") == "12.5 s a volume"

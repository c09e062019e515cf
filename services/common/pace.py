"""How fast work goes at present, and what is left of it: from the last minute, not from the beginning."""

from collections import deque

#: Seconds of work that a rate is the mean of.
WINDOW_S = 60.0
#: Where work is slow, a rate is the mean of at least so many advances.
LEAST_ADVANCES = 8
#: Advances closer than this are taken as one: thousands a second would only fill memory.
_APART_S = 0.5


class Pace:
    """The rate of the recent work.

    Args:
        now: Seconds on some clock, when work begins.
        done: Units that are done already.
    """

    def __init__(self, now: float, done: int) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, done)])

    def add(self, now: float, done: int) -> None:
        """So many units are done at this time."""
        if len(self._samples) > 1 and now - self._samples[-2][0] < _APART_S:
            self._samples.pop()
        self._samples.append((now, done))
        while len(self._samples) > LEAST_ADVANCES + 1 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()

    def rate(self, now: float) -> float | None:
        """Units a second; None before anything is done. It falls while nothing is done."""
        (first, before), (_, done) = self._samples[0], self._samples[-1]
        if done == before:
            return None
        return (done - before) / max(now - first, 1e-9)

    def left(self, now: float, total: int) -> float | None:
        """Seconds until all units are done, at this rate; None before anything is done."""
        rate = self.rate(now)
        return None if rate is None else max(0, total - self._samples[-1][1]) / rate


def duration(seconds: float) -> str:
    """A time in two units at most: ``42 s``, ``3 min 05 s``, ``2 h 14 min``, ``3 d 4 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def speed(rate: float, unit: str) -> str:
    """A rate in words: ``3.1 steps/s``, or ``12 s a step`` where it is below one a second."""
    if rate >= 1:
        return f"{rate:.3g} {unit or 'units'}/s"
    return f"{1 / rate:.3g} s a {unit.removesuffix('s') or 'unit'}"

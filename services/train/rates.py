"""How fast training goes, and how much of its time it waits for data."""

import time
from collections import deque

#: Steps that a rate is the mean of.
_STEPS = 20


class Rates:
    """Means over the last steps.

    Args:
        images: Images a step, over all workers.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self._waited = 0.0
        self._done: deque[tuple[float, float]] = deque([(time.perf_counter(), 0.0)], maxlen=_STEPS + 1)

    def waited(self, seconds: float) -> None:
        """Time before a step that data were waited for."""
        self._waited += seconds

    def step_done(self) -> None:
        """A step has ended."""
        self._done.append((time.perf_counter(), self._waited))

    def values(self) -> dict[str, float]:
        """Images per second over all workers, and the share of this worker's time spent waiting."""
        (first, waited_before), (last, waited) = self._done[0], self._done[-1]
        seconds = max(last - first, 1e-9)
        return {
            "images_per_second": self.images * (len(self._done) - 1) / seconds,
            "waiting_share": (waited - waited_before) / seconds,
        }

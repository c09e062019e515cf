"""A tracker in a thread of its own: a server that is slow or gone costs the training no time."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from services.common.progress import say
from services.train.trackers.base import Target, Tracker

#: Steps between two points of a curve.
EVERY = 10
#: Calls that wait, at most; what comes while so many wait is left out.
_WAITING = 1000
#: Seconds that the end of the training waits for the last calls.
_PATIENCE_S = 30.0


class TrackerThread:
    """Passes metrics to a tracker; where the tracker fails, that is said once.

    Args:
        target: The run.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._calls: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"{target.tracker} tracker", daemon=True)
        self._thread.start()

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """Pass on the metrics of every tenth step, and of the last one."""
        if done % EVERY == 0 or done == self._target.steps:
            self._pass(lambda tracker: tracker.step(done, metrics))

    def picture(self, done: int, picture: NDArray[np.uint8]) -> None:
        """Pass on a preview."""
        self._pass(lambda tracker: tracker.picture(done, picture))

    def close(self, *, failed: bool) -> None:
        """Wait for what was passed on, for half a minute at most."""
        self._pass(lambda tracker: tracker.close(failed=failed))
        self._pass(None)
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            say(f"{self._target.tracker} is too slow; its last metrics are left out")

    def _pass(self, call: Callable[[Tracker], None] | None) -> None:
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(call)

    def _work(self) -> None:
        try:
            tracker = _make(self._target)
            while (call := self._calls.get()) is not None:
                call(tracker)
        except Exception as error:
            say(f"no more metrics for {self._target.tracker}: {type(error).__name__}: {error}")


#: Keep both from sending what nobody asked them to: usage statistics and reports of errors.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


def _make(target: Target) -> Tracker:
    for name, value in _QUIET.items():  # read when they are imported
        os.environ.setdefault(name, value)
    if target.tracker == "mlflow":
        from services.train.trackers.mlflow_tracker import MlflowTracker

        return MlflowTracker(target)
    from services.train.trackers.wandb_tracker import WandbTracker

    return WandbTracker(target)

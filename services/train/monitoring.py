"""Where a run can be watched: TensorBoard and the metrics of Ray; and how fast it goes."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from ray.util.metrics import Gauge
from torch.utils.tensorboard import SummaryWriter

from lungforge.storage import join_uri
from services.common.progress import say
from services.common.telemetry import STEPS, stall
from services.common.training_time import read_training_seconds, write_training_seconds
from services.train.trackers import Target, TrackerThread

#: Steps that a rate is the mean of.
_RATE_STEPS = 20


class Rates:
    """How fast training goes, and how much of its time it waits for data: means over the last steps.

    Args:
        images: Images a step, over all workers.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self._waited = 0.0
        self._done: deque[tuple[float, float]] = deque([(time.perf_counter(), 0.0)], maxlen=_RATE_STEPS + 1)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block, data are waited for."""
        started = time.perf_counter()
        with stall("train"):
            yield
        self._waited += time.perf_counter() - started

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


class Monitor:
    """Writes the metrics of every step to TensorBoard files in OUT/tensorboard, and to Ray's metrics.

    What is only looked at is no result: where TensorBoard files cannot be written, that is said once, and
    training continues.

    Args:
        uri: Folder of the run's dataset.
        done: Steps that are done already; what was written of later ones is taken back.
        trackers: Where metrics and previews go beside that.
    """

    def __init__(self, uri: str, done: int, trackers: Sequence[Target] = ()) -> None:
        self._writer: SummaryWriter | None = None
        self._gauges: dict[str, Gauge] = {}
        with self._tolerated():
            self._writer = SummaryWriter(join_uri(uri, "tensorboard"), purge_step=done + 1)
        self._trackers = [TrackerThread(target) for target in trackers]
        self._uri, self._started, self._before = uri, time.monotonic(), 0.0
        if done:
            with contextlib.suppress(OSError):
                self._before = read_training_seconds(uri) or 0.0

    def __enter__(self) -> Self:
        return self

    def keep_time(self) -> None:
        """Record how long the steps took so far: those that a resumed run continues from."""
        with contextlib.suppress(OSError):
            write_training_seconds(self._uri, self._before + time.monotonic() - self._started)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.keep_time()
        if self._writer is not None:
            with self._tolerated():
                self._writer.close()
        for tracker in self._trackers:
            tracker.close(failed=kind is not None)

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """Write the metrics of a step."""
        if self._writer is not None:
            with self._tolerated():
                for name, value in metrics.items():
                    self._writer.add_scalar(f"train/{name}", value, done)
        for tracker in self._trackers:
            tracker.step(done, metrics)
        STEPS.inc()
        for name, value in metrics.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"lungforge_train_{name}", f"Of the last step: {name}.")
            self._gauges[name].set(value)

    def picture(self, done: int, picture: NDArray[np.uint8]) -> None:
        """Write a preview, [H, W, 3]."""
        if self._writer is not None:
            with self._tolerated():
                self._writer.add_image("preview", picture, done, dataformats="HWC")
        for tracker in self._trackers:
            tracker.picture(done, picture)

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._writer = None
            say(f"no more TensorBoard files: {type(error).__name__}: {error}")

"""Where the numbers of a run can be watched: TensorBoard, and the metrics of Ray."""

import contextlib
from collections.abc import Iterator
from typing import Self

import numpy as np
from ray.util.metrics import Gauge
from torch.utils.tensorboard import SummaryWriter

from lungforge.storage import join_uri
from services.common.progress import say
from services.common.telemetry import STEPS


class Telemetry:
    """Writes the metrics of every step to TensorBoard files in OUT/tensorboard, and to Ray's metrics.

    Numbers to look at are no result: a store that takes none is told of, once, and training goes on.

    Args:
        uri: Folder of the run's dataset.
        done: Steps that are done already; what was written of later ones is taken back.
        enabled: Whether anything is written; on one worker only.
    """

    def __init__(self, uri: str, done: int, *, enabled: bool) -> None:
        self._writer: SummaryWriter | None = None
        self._gauges: dict[str, Gauge] = {}
        self._enabled = enabled
        if not enabled:
            return
        with self._tolerated():
            self._writer = SummaryWriter(join_uri(uri, "tensorboard"), purge_step=done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            with self._tolerated():
                self._writer.close()

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """Write the numbers of a step."""
        if self._writer is not None:
            with self._tolerated():
                for name, value in metrics.items():
                    self._writer.add_scalar(f"train/{name}", value, done)
        if self._enabled:
            STEPS.inc()
            for name, value in metrics.items():
                if name not in self._gauges:
                    self._gauges[name] = Gauge(f"lungforge_train_{name}", f"Of the last step: {name}.")
                self._gauges[name].set(value)

    def picture(self, done: int, picture: np.ndarray) -> None:
        """Write a preview, uint8 [H, W, 3]."""
        if self._writer is not None:
            with self._tolerated():
                self._writer.add_image("preview", picture, done, dataformats="HWC")

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._writer = None
            say(f"no more TensorBoard files: {type(error).__name__}: {error}")

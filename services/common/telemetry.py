"""What the services count for Prometheus, by way of Ray's metrics; docs/monitoring.md says what it means.

Ray exports each name with ``ray_`` before it, and ``_total`` behind that of a counter. Without Ray nothing
is counted, and nothing fails. What is done is counted by the process that started the job: it knows what is
whole, and is not lost with a worker. What only a worker sees is counted there, and one that is killed takes
its last ten seconds with it.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Literal

from lungforge.extras import is_installed


class _Uncounted:
    """A counter of what nobody asks for."""

    def __init__(self, *description: Any) -> None:
        pass

    def inc(self, *value_and_tags: Any) -> None:
        """Count nothing."""

    set = inc


if is_installed("ray"):
    from ray.util.metrics import Counter, Gauge
else:
    Counter = Gauge = _Uncounted

#: The services that may be stalled, or have to do something again.
Service = Literal["preprocess", "train", "sample"]

#: ``outcome``: ``done`` in this run, ``resumed`` (whole from an earlier one), or ``rejected``.
VOLUMES = Counter("lungforge_preprocess_volumes", "Volumes that were gone through.", ("outcome",))
STEPS = Counter("lungforge_train_steps", "Steps of the optimiser.")
IMAGES = Counter("lungforge_sample_images", "Images in parts that are whole.")
PARTS_PLANNED = Gauge("lungforge_sample_parts_planned", "Parts of the run.")
PARTS_LEFT = Gauge("lungforge_sample_parts_left", "Parts of the run that are still to be sampled.")
TASKS = Counter("lungforge_evaluate_tasks", "Parts that were measured, and networks that were trained.")

STALLS = Counter(
    "lungforge_stall_seconds", "Time that workers waited for their input, without computing.", ("service",)
)
_RETRIES = Counter("lungforge_retries", "Work units that were retried after a failure.", ("service",))


@contextlib.contextmanager
def stall(service: Service) -> Iterator[None]:
    """Count the time of the block in which this thread does not compute: it waits for what it reads."""
    started, computed_before = time.perf_counter(), time.thread_time()
    try:
        yield
    finally:
        computed = time.thread_time() - computed_before
        waited = time.perf_counter() - started - computed
        if waited > 0:  # Ray refuses to count nothing
            STALLS.inc(waited, {"service": service})


def retry(service: Service) -> None:
    """Count a work unit that is retried."""
    _RETRIES.inc(1, {"service": service})

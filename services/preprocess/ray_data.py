"""The work on all volumes by Ray Data: one task a volume, and what becomes of tasks that end otherwise.

A volume whose worker dies is worked on again behind the others, and after its second death alone, so that it
does not answer for the memory that its neighbours take. After ``MAX_DEATHS`` it is rejected. The first error
that ends the job keeps every further volume from being begun.
"""

import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.common import telemetry
from services.common.progress import say
from services.common.ray_tasks import MAX_DEATHS
from services.preprocess.survey import SourceVolume
from services.preprocess.volume import VolumeOutcome, VolumeTask

#: Worker deaths of a volume after which it is worked on alone: the next one has no other cause.
_DEATHS_IN_COMPANY = 2


class Stop:
    """An actor that all tasks ask before they begin: Ray Data starts some before it hears of an error."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        """Let no further volume be begun."""
        self._asked = True

    def asked(self) -> bool:
        """Whether it was asked for."""
        return self._asked


def _start_stop() -> Any:
    """The actor, on the driver's host: that of a worker may be lost, and every task asks it."""
    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(Stop)
    return remote.options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=beside
    ).remote()


def work_on_volumes(
    volumes: Sequence[SourceVolume], task: VolumeTask, workers: int | None
) -> Iterator[VolumeOutcome]:
    """Work on volumes, as many at a time as there are workers; None takes as many as Ray has CPUs.

    Yields:
        What became of each, in no particular order.

    Raises:
        Exception: What the work on a volume raised.
    """
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    stop = _start_stop()
    left = list(volumes)
    for deaths in range(1, MAX_DEATHS + 1):
        alone = deaths > _DEATHS_IN_COMPANY
        done = set()
        for outcome in _pass(left, task, stop, workers=1 if alone else min(workers, len(left))):
            done.add(outcome.part_name)
            yield outcome
        left = [volume for volume in left if volume.part_name not in done]
        if not left:
            return
        for volume in left if deaths < MAX_DEATHS else ():
            telemetry.retry("preprocess")
            say(f"a worker died at {volume.entry.series_uid}; another one takes it over")
    yield from map(_took_down, left)


def _pass(
    volumes: Sequence[SourceVolume], task: VolumeTask, stop: Any, *, workers: int
) -> Iterator[VolumeOutcome]:
    """Work on each volume once; of one whose worker dies there is no outcome."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    dataset = ray.data.from_items(
        [{"volume": pickle.dumps(volume)} for volume in volumes], override_num_blocks=len(volumes)
    ).map(
        preprocess_volume,
        fn_kwargs={"task": task, "stop": stop},
        num_cpus=1,
        # Deaths are counted here, by volume: Ray would begin again for ever when memory runs out.
        ray_remote_args_fn=lambda: {"max_retries": 0},
        compute=ray.data.TaskPoolStrategy(size=workers),
    )
    for row in dataset.iter_rows():
        outcome = pickle.loads(row["outcome"])  # noqa: S301 - from this job's workers
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            yield outcome


def preprocess_volume(row: dict[str, bytes], task: VolumeTask, stop: Any) -> dict[str, bytes]:
    """The work on one volume, as Ray Data calls it: rows are Arrow tables, which hold bytes, no objects.

    An error is an outcome too, and None that the volume was not begun: Ray Data takes what is raised for the
    death of a worker.
    """
    outcome: VolumeOutcome | Exception | None = None
    if not ray.get(stop.asked.remote()):
        try:
            outcome = task(pickle.loads(row["volume"]))  # noqa: S301
        except Exception as error:
            ray.get(stop.ask.remote())
            outcome = error
    return {"outcome": pickle.dumps(outcome)}


def _took_down(volume: SourceVolume) -> VolumeOutcome:
    reason = f"{MAX_DEATHS} workers died while they read it (a library crashed, or memory ran out)"
    return VolumeOutcome(
        volume.part_name,
        volume.entry.series_uid,
        volume.entry.subset,
        rejected=f"{volume.entry.uri}: {reason}",
        took_down=True,
    )

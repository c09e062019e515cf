"""Where the workers of a run leave their newest metrics for the job, and the job its wish to stop."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.common import telemetry


class _CoordinatorActor:
    """The newest report, and whether to stop."""

    def __init__(self) -> None:
        self._latest: tuple[int, dict[str, float]] = (0, {})
        self._stop = asyncio.Event()
        self._starts = 0

    async def report(self, done: int, metrics: dict[str, float]) -> None:
        self._latest = (done, metrics)
        if not metrics:  # workers that begin have no metrics yet; Ray replaces all of them where one dies
            self._starts += 1
            if self._starts > 1:
                telemetry.retry("train")

    async def latest(self) -> tuple[int, dict[str, float]]:
        return self._latest

    async def started(self) -> bool:
        return self._starts > 0

    async def stop(self) -> None:
        self._stop.set()

    async def stopped(self) -> None:
        await self._stop.wait()


@dataclass(frozen=True)
class Coordinator:
    """A handle on the actor; plain data that goes to the workers."""

    actor: Any

    def report(self, done: int, metrics: dict[str, float]) -> None:
        """Leave the newest metrics; does not wait."""
        self.actor.report.remote(done, metrics)

    def latest(self) -> tuple[int, dict[str, float]]:
        """The newest report: steps done, and metrics by name."""
        return ray.get(self.actor.latest.remote())

    def started(self) -> bool:
        """Whether workers have begun: before, there is nothing to save."""
        return ray.get(self.actor.started.remote())

    def stop(self) -> None:
        """Ask the workers to save and leave."""
        ray.get(self.actor.stop.remote())

    def stop_request(self) -> Callable[[], bool]:
        """A function that says at once whether to stop; it begins to listen when first called."""
        waiting: list[ray.ObjectRef] = []

        def stopped() -> bool:
            if not waiting:
                waiting.append(self.actor.stopped.remote())
            if not ray.wait(waiting, timeout=0)[0]:
                return False
            # The coordinator is gone only with the job itself, which Ray then ends.
            with contextlib.suppress(RayActorError):
                ray.get(waiting[0])
                return True
            return False

        return stopped


def start_coordinator() -> Coordinator:
    """A coordinator on this host, so that the loss of another one does not take it away."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_CoordinatorActor).options(num_cpus=0, scheduling_strategy=here).remote()
    return Coordinator(actor)

"""Where the workers of a run and the job that started them leave word for one another."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from services.common import telemetry


class _Desk:
    """The newest report, and whether to stop."""

    def __init__(self) -> None:
        self._latest: tuple[int, dict[str, float]] = (0, {})
        self._stop = asyncio.Event()
        self._starts = 0

    async def report(self, done: int, metrics: dict[str, float]) -> None:
        self._latest = (done, metrics)
        if not metrics:  # workers that begin have no numbers yet; Ray replaces all of them where one dies
            self._starts += 1
            if self._starts > 1:
                telemetry.retry("train")

    async def latest(self) -> tuple[int, dict[str, float]]:
        return self._latest

    async def stop(self) -> None:
        self._stop.set()

    async def stopped(self) -> None:
        await self._stop.wait()


@dataclass(frozen=True)
class Desk:
    """A handle on the actor; plain data that goes to the workers."""

    actor: Any

    def report(self, done: int, metrics: dict[str, float]) -> None:
        """Leave the newest numbers; does not wait."""
        self.actor.report.remote(done, metrics)

    def latest(self) -> tuple[int, dict[str, float]]:
        """The newest numbers: steps done, and metrics by name."""
        return ray.get(self.actor.latest.remote())

    def stop(self) -> None:
        """Ask the workers to save and leave."""
        ray.get(self.actor.stop.remote())

    def stop_request(self) -> Callable[[], bool]:
        """A function that says at once whether the workers are to stop."""
        waiting = self.actor.stopped.remote()

        def stopped() -> bool:
            if not ray.wait([waiting], timeout=0)[0]:
                return False
            # The desk is gone only with the job itself, which Ray then ends.
            with contextlib.suppress(RayActorError):
                ray.get(waiting)
                return True
            return False

        return stopped


def open_desk() -> Desk:
    """A desk on this host, so that the loss of another one does not take it away."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote()
    return Desk(actor)

"""What a job asks of a cluster, compared with what is there before anything waits for it."""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import placement_group, remove_placement_group

from lungforge.errors import InputError
from services.common.progress import say

#: Seconds that a cluster's hosts are given to join it, before a job is refused for want of them.
JOIN_S = 10.0
#: Seconds between two lines that say what a job waits for, and before the first.
SAY_S = 30.0
_SOON_S = 3.0
#: How Ray's monitor names hosts where no autoscaler could start more of them.
_WITHOUT_AUTOSCALER = "node_"


@dataclass(frozen=True)
class Needs:
    """Workers that a job cannot do without.

    Attributes:
        cpus: Cores of each.
        gpus: GPUs of each, or a share of one.
        workers: How many must work at the same time.
        option: The option that asks for the GPUs.
    """

    cpus: float = 1
    gpus: float = 0
    workers: int = 1
    option: str = "--gpus-per-worker"

    @property
    def bundle(self) -> dict[str, float]:
        """Ray's resources of a worker."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def room(self, hosts: Iterable[Mapping[str, float]]) -> int:
        """How many such workers some hosts hold, by their resources; a worker is on one host."""
        return sum(self._room(host) for host in hosts)

    def _room(self, host: Mapping[str, float]) -> int:
        by_cpus = math.floor(host.get("CPU", 0) / self.cpus) if self.cpus else self.workers
        if not self.gpus:
            return by_cpus
        gpus = host.get("GPU", 0)
        # A share of a GPU lies on one of them.
        by_gpus = (
            math.floor(gpus) * math.floor(1 / self.gpus) if self.gpus < 1 else math.floor(gpus / self.gpus)
        )
        return min(by_cpus, by_gpus)

    def __str__(self) -> str:
        each = f"{_count(self.cpus, 'core')}{f' and {_gpus(self.gpus)}' if self.gpus else ''}"
        return f"{self.workers} workers of {each} each" if self.workers > 1 else f"a worker of {each}"


def require_room(needs: Iterable[Needs], *, joined: bool) -> None:
    """Return once there is room for what a job needs.

    A cluster that cannot hold it is given some seconds for its hosts to join; one with an autoscaler, and one
    that is busy, is waited for, with a line every so often.

    Args:
        needs: All that it needs, one after the other.
        joined: Whether the cluster is one that was joined, not one of this process.

    Raises:
        InputError: The cluster does not have it, and will not.
    """
    for need in needs:
        deadline = time.monotonic() + (JOIN_S if joined else 0)
        while need.room(_hosts()) < need.workers and not _grows():
            if time.monotonic() >= deadline:
                raise InputError(_refusal(need, joined=joined))
            time.sleep(0.5)
        if joined:
            _wait(need)


def _wait(need: Needs) -> None:
    """Wait until the cluster has the room free. Asking for it also makes an autoscaler start hosts."""
    group = placement_group([need.bundle] * need.workers)
    try:
        next_word = time.monotonic() + _SOON_S
        # In short stretches: Ray does not hear Ctrl-C within one.
        while not group.wait(0.5):
            if time.monotonic() >= next_word:
                next_word = time.monotonic() + SAY_S
                say(
                    f"waiting for {need}: the cluster has {_resources(_hosts())}, of which "
                    f"{_resources([ray.available_resources()])} are free"
                )
    finally:
        remove_placement_group(group)


def _hosts() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _grows() -> bool:
    """Whether the cluster has an autoscaler: Ray's monitor then knows its kinds of hosts by name."""
    status: Any = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or b"{}")
    report = status.get("autoscaler_report") or {}
    kinds = {**(report.get("active_nodes") or {}), **(report.get("idle_nodes") or {})}
    launching = report.get("pending_launches") or report.get("pending_nodes")
    return bool(launching) or any(not kind.startswith(_WITHOUT_AUTOSCALER) for kind in kinds)


def _refusal(need: Needs, *, joined: bool) -> str:
    hosts = _hosts()
    place = f"the cluster of {_count(len(hosts), 'host')}"
    if not joined:
        # A cluster of our own counts as many cores as were asked for; they are shared.
        place, hosts = "this machine", [{**host, "CPU": os.cpu_count() or 1} for host in hosts]
    room = need.room(hosts) if joined else 0
    if room:
        remedy = f"give --workers {room}"
    elif need.gpus and Needs(need.cpus, 0, need.workers).room(hosts) >= need.workers:
        remedy = f"run without GPUs by {need.option} 0, or on a cluster that has them (`lungforge submit`)"
    else:
        remedy = (
            "give fewer --workers and --cpus-per-worker, or run it on a larger cluster (`lungforge submit`)"
        )
    return f"this job needs {need}, and {place} has {_resources(hosts)}; {remedy}"


def _resources(hosts: Iterable[Mapping[str, float]]) -> str:
    hosts = list(hosts)
    cpus, gpus = (sum(host.get(name, 0) for host in hosts) for name in ("CPU", "GPU"))
    return f"{_count(cpus, 'core')} and {_gpus(gpus) if gpus else 'no GPU'}"


def _gpus(count: float) -> str:
    return f"{count:g} of a GPU" if 0 < count < 1 else _count(count, "GPU")


def _count(count: float, what: str) -> str:
    return f"{count:g} {what}{'' if count == 1 else 's'}"

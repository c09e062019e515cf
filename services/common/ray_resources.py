"""What a job asks of a cluster, compared with what is there before anything waits for it."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import placement_group, remove_placement_group

from lungforge.errors import InputError
from services.common.needs import Needs, count_words, gpu_words
from services.common.progress import say

#: Seconds that a cluster's hosts are given to join it, before a job is refused for want of them.
JOIN_S = 10.0
#: Seconds between two lines that say what a job waits for, and before the first.
SAY_S = 30.0
_SOON_S = 3.0
#: How Ray's monitor names hosts where no autoscaler could start more of them.
_WITHOUT_AUTOSCALER = "node_"


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
    place = f"the cluster of {count_words(len(hosts), 'host')}"
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
    return f"{count_words(cpus, 'core')} and {gpu_words(gpus) if gpus else 'no GPU'}"

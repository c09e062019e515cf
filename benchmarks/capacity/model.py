"""The capacity model: time of each stage on 1 to 256 workers, and what saturates first.

Work is divided into units: a volume, a part of samples, a part to evaluate, a worker's share of a step.
Each unit passes the driver, the store, the network of its worker's host and the worker. The first three are
queues: one unit at a time, first come, first served. The units are simulated one by one, because a formula
would be wrong where queues begin to fill, and where few units are left for many workers. The steps of
training are synchronous, so there each round takes as long as its slowest worker, and gradients pass the
network.
"""

import dataclasses
import heapq
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Worker counts that are simulated.
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Resources:
    """Resources that all workers share."""

    store_requests_per_second: float
    store_bytes_per_second: float
    store_latency_seconds: float
    """Latency of a request to an idle store."""
    host_bytes_per_second: float
    workers_per_host: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, and the resources of one unit of its work."""

    name: str
    unit: str
    """Description of a unit."""
    units: int
    """Number of units of the whole work."""
    worker_seconds: float
    """Processor or GPU time, without waiting for the store."""
    variation: float
    """Standard deviation of the worker time over its mean."""
    requests: float
    """Requests to the store."""
    bytes: float
    """Bytes to and from the store."""
    driver_seconds: float
    start_seconds: float
    """Time per run in which workers start, and load what they need."""
    exchanged_bytes: float = 0
    """Gradients that training workers exchange in each step; 0 if units are independent."""


@dataclasses.dataclass(frozen=True)
class Simulation:
    """Result for one stage and worker count."""

    stage: str
    workers: int
    seconds: float
    busy: dict[str, float]
    """Utilisation of each resource: workers, driver, store, network."""

    @property
    def limit(self) -> str:
        """The busiest resource. If it is a queue, it is saturated: more workers only wait for it."""
        return max(self.busy, key=self.busy.__getitem__)


def demands(stage: Stage, resources: Resources) -> dict[str, float]:
    """Seconds that a unit takes of each resource, with one worker."""
    waited = stage.requests * resources.store_latency_seconds
    return {
        "workers": stage.worker_seconds + waited,
        "driver": stage.driver_seconds,
        "store": max(
            stage.requests / resources.store_requests_per_second,
            stage.bytes / resources.store_bytes_per_second,
        ),
        "network": stage.bytes / resources.host_bytes_per_second,
    }


def bound(stage: Stage, resources: Resources, workers: int) -> float:
    """Lower bound of the time of a stage with independent units, by its scarcest resource."""
    taken = demands(stage, resources)
    hosts = math.ceil(workers / resources.workers_per_host)
    shared = max(taken["driver"], taken["store"], taken["network"] / hosts)
    return stage.start_seconds + stage.units * max(sum(taken.values()) / workers, shared)


def simulate(stage: Stage, resources: Resources, workers: int, seed: int = 0) -> Simulation:
    """Simulate every unit of a stage on its way through the queues."""
    taken = demands(stage, resources)
    waited = taken["workers"] - stage.worker_seconds
    computing = _durations(stage, seed)
    run = _synchronous if stage.exchanged_bytes else _independent
    end, network = run(stage, resources, workers, taken, computing, waited)
    busy = {
        "workers": (float(computing.sum()) + (0 if stage.exchanged_bytes else waited * stage.units))
        / workers,
        "driver": stage.units * taken["driver"],
        "store": stage.units * taken["store"],
        "network": network,
    }
    shares = {name: value / end if end else 0.0 for name, value in busy.items()}
    return Simulation(stage.name, workers, stage.start_seconds + end, shares)


def _durations(stage: Stage, seed: int) -> NDArray[np.float64]:
    """Worker time of each unit, independent of the number of workers."""
    if not stage.variation or not stage.worker_seconds:
        return np.full(stage.units, stage.worker_seconds)
    shape = stage.variation**-2
    sampled = np.random.default_rng(seed).gamma(shape, stage.worker_seconds / shape, stage.units)
    return sampled * (stage.worker_seconds * stage.units / sampled.sum())


def _independent(
    stage: Stage,
    resources: Resources,
    workers: int,
    taken: dict[str, float],
    computing: NDArray[np.float64],
    waited: float,
) -> tuple[float, float]:
    """The next free worker takes the next unit. Returns the end of the last, and a network's busy time."""
    driver = store = end = 0.0
    networks = [0.0] * math.ceil(workers / resources.workers_per_host)
    free = [(0.0, worker) for worker in range(workers)]
    for seconds in computing.tolist():
        now, worker = heapq.heappop(free)
        host = worker // resources.workers_per_host
        driver = max(now, driver) + taken["driver"]
        store = max(driver, store) + taken["store"]
        networks[host] = max(store, networks[host]) + taken["network"]
        done = networks[host] + waited + seconds
        end = max(end, done)
        heapq.heappush(free, (done, worker))
    return end, stage.units * taken["network"] / len(networks)


def _synchronous(
    stage: Stage,
    resources: Resources,
    workers: int,
    taken: dict[str, float],
    computing: NDArray[np.float64],
    waited: float,
) -> tuple[float, float]:
    """Rounds of a unit per worker and a gradient exchange, while the next are read; returns likewise."""
    hosts = math.ceil(workers / resources.workers_per_host)
    # Ring all-reduce: each host sends and receives 2 (W - 1) / W times the gradients, whatever its workers.
    ring = 2 * (workers - 1) / workers * stage.exchanged_bytes / resources.host_bytes_per_second
    end = 0.0
    for first in range(0, stage.units, workers):
        shares = computing[first : first + workers]
        reading = waited + len(shares) * max(taken["store"], taken["network"] / hosts)
        end += max(reading, float(shares.max())) + ring
    return end, stage.units * taken["network"] / hosts + math.ceil(stage.units / workers) * ring


def first_saturated(stage: Stage, resources: Resources) -> tuple[str, int] | None:
    """The queue that saturates first as workers are added, and the number of workers at that point."""
    for workers in WORKERS:
        result = simulate(stage, resources, workers)
        if result.limit != "workers":
            return result.limit, workers
    return None


def read_rates(path: Path) -> tuple[Resources, list[Stage]]:
    """Read a file of rates.

    Raises:
        ValueError: It is not such a file; the message says why.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stages = [Stage(**stage) for stage in document["stages"]]
        return Resources(**document["resources"]), stages
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a file of rates ({error!r}); make one with `python -m benchmarks.capacity measure`"
        ) from error


def table(resources: Resources, stages: list[Stage], price: float | None) -> list[dict[str, Any]]:
    """Results of every stage and worker count; ``cost`` in the currency of the price, or None."""
    rows = []
    for stage in stages:
        for workers in WORKERS:
            result = simulate(stage, resources, workers)
            hours = workers * result.seconds / 3600
            rows.append(
                dataclasses.asdict(result)
                | {"limit": result.limit, "worker_hours": hours, "cost": price and price * hours}
            )
    return rows

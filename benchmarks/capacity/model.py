"""How long each stage takes on 1 to 256 workers, and what saturates first: the model itself.

Work is cut into units: a volume, a part of samples, a part to be measured, a worker's share of a step. Each
passes the driver, the store, the network of its worker's host and the worker. The first three are queues:
one unit at a time, first come, first served. Units are sent through them one by one rather than put into a
formula, which would be wrong where queues begin to fill, and where few units are left for many workers. The
steps of training wait for one another, so there each round takes as long as its slowest worker, and gradients
pass the network.
"""

import dataclasses
import heapq
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Numbers of workers that are simulated.
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Resources:
    """What all workers share."""

    store_requests_per_second: float
    store_bytes_per_second: float
    store_latency_seconds: float
    """What a worker waits for one request, when nobody else asks."""
    host_bytes_per_second: float
    workers_per_host: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage, and what one unit of its work takes."""

    name: str
    unit: str
    """What a unit is, in words."""
    units: int
    """Of the whole work."""
    worker_seconds: float
    """Of a processor or a GPU: computing, without waiting for the store."""
    variation: float
    """Standard deviation of that over its mean."""
    requests: float
    """To the store."""
    bytes: float
    """To and from the store."""
    driver_seconds: float
    start_seconds: float
    """Once a run: workers begin, and load what they need."""
    exchanged_bytes: float = 0
    """Gradients that the workers of training exchange in each step; 0 where units are independent."""


@dataclasses.dataclass(frozen=True)
class Simulation:
    """One stage on some workers."""

    stage: str
    workers: int
    seconds: float
    busy: dict[str, float]
    """Share of the time that each part worked: workers, driver, store, network."""

    @property
    def limit(self) -> str:
        """The busiest part. Where it is a queue, more workers only wait for it: it is saturated."""
        return max(self.busy, key=self.busy.__getitem__)


def demands(stage: Stage, resources: Resources) -> dict[str, float]:
    """Seconds that a unit takes of each part, with one worker."""
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
    """The least that a stage of independent units can take: the whole work over the scarcest part."""
    taken = demands(stage, resources)
    hosts = math.ceil(workers / resources.workers_per_host)
    shared = max(taken["driver"], taken["store"], taken["network"] / hosts)
    return stage.start_seconds + stage.units * max(sum(taken.values()) / workers, shared)


def simulate(stage: Stage, resources: Resources, workers: int, seed: int = 0) -> Simulation:
    """Send every unit of a stage through its queues."""
    taken = demands(stage, resources)
    waited = taken["workers"] - stage.worker_seconds
    computing = _durations(stage, seed)
    run = _in_step if stage.exchanged_bytes else _independent
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
    """What each unit takes of a worker; the same units, however many workers."""
    if not stage.variation or not stage.worker_seconds:
        return np.full(stage.units, stage.worker_seconds)
    shape = stage.variation**-2
    drawn = np.random.default_rng(seed).gamma(shape, stage.worker_seconds / shape, stage.units)
    return drawn * (stage.worker_seconds * stage.units / drawn.sum())


def _independent(
    stage: Stage,
    resources: Resources,
    workers: int,
    taken: dict[str, float],
    computing: NDArray[np.float64],
    waited: float,
) -> tuple[float, float]:
    """Whoever is free takes the next unit; the end of the last, and how long a network was at work."""
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


def _in_step(
    stage: Stage,
    resources: Resources,
    workers: int,
    taken: dict[str, float],
    computing: NDArray[np.float64],
    waited: float,
) -> tuple[float, float]:
    """All workers do a unit each, exchange gradients and go on, while what comes next is read; likewise."""
    hosts = math.ceil(workers / resources.workers_per_host)
    # A ring: 2 (W - 1) / W times the gradients leave each host and come to it, however many workers it has.
    ring = 2 * (workers - 1) / workers * stage.exchanged_bytes / resources.host_bytes_per_second
    end = 0.0
    for first in range(0, stage.units, workers):
        team = computing[first : first + workers]
        reading = waited + len(team) * max(taken["store"], taken["network"] / hosts)
        end += max(reading, float(team.max())) + ring
    return end, stage.units * taken["network"] / hosts + math.ceil(stage.units / workers) * ring


def first_saturated(stage: Stage, resources: Resources) -> tuple[str, int] | None:
    """The queue that is the first to be saturated as workers are added, and with how many."""
    for workers in WORKERS:
        found = simulate(stage, resources, workers)
        if found.limit != "workers":
            return found.limit, workers
    return None


def read_rates(path: Path) -> tuple[Resources, list[Stage]]:
    """Read a file of rates.

    Raises:
        ValueError: It is none; says what is wrong.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stages = [Stage(**stage) for stage in document["stages"]]
        return Resources(**document["resources"]), stages
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: no file of rates ({error!r}); make one with `python -m benchmarks.capacity measure`"
        ) from error


def table(resources: Resources, stages: list[Stage], price: float | None) -> list[dict[str, Any]]:
    """Every stage on every number of workers; ``cost`` in the currency of the price, or None."""
    rows = []
    for stage in stages:
        for workers in WORKERS:
            found = simulate(stage, resources, workers)
            hours = workers * found.seconds / 3600
            rows.append(
                dataclasses.asdict(found)
                | {"limit": found.limit, "worker_hours": hours, "cost": price and price * hours}
            )
    return rows

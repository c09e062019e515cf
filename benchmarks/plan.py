"""Cost of scheduling for the driver: ``python -m benchmarks.plan [--units N ...] [--json]``.

The units of a sampling run are planned and scheduled as in a real one, on two actors that return at once
without sampling or writing. So the time is that of the service alone, and the memory that of the driver:
its resident set before, and its growth until the end, when it holds every part.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray

from lungforge.datasets import Part
from services.common.ray_session import ray_session
from services.common.ray_tasks import run_on_actors
from services.sample.config import SampleConfig
from services.sample.plan import SamplingPlan, make_plan

WORKERS = 2
PART_IMAGES = 64


class _StandIn:
    """Worker that returns a part of the right size at once."""

    def __init__(self, plan: SamplingPlan) -> None:
        self._plan = plan

    def sample(self, number: int) -> Part:
        unit = self._plan.unit(number)
        path = f"parts-0123456789ab/part-{unit.name}.parquet"
        return Part(path=path, rows=len(unit.rows), bytes=1_000_000 + number, sha256=f"{number:064x}")


class _Index(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.nodules)


def measure(units: int) -> dict[str, float]:
    """Plan and schedule ``units`` units; returns times and memory of the driver."""
    before = _resident_mib()
    started = time.perf_counter()
    config = SampleConfig(model="-", data="-", out="-", per_map=PART_IMAGES, part_images=PART_IMAGES)
    plan = make_plan(config, _Index(nodules=np.ones(units, np.int32)))  # type: ignore[arg-type]
    planned = time.perf_counter()
    remote: Any = ray.remote(_StandIn)
    shared = ray.put(plan)
    peak = _Peak()
    done = run_on_actors(
        lambda: remote.remote(shared).sample.remote,
        range(len(plan)),
        WORKERS,
        service="sample",
        name_of=plan.name,
    )
    parts = [each.result for each in done]
    ended = time.perf_counter()
    assert len({part.path for part in parts}) == units
    assert sum(part.rows for part in parts) == units * PART_IMAGES
    return {
        "units": units,
        "images": plan.images,
        "plan_s": planned - started,
        "ms_per_unit": 1000 * (ended - planned) / units,
        "driver_mib_before": before,
        "driver_mib_growth": peak.stop() - before,
        "bytes_per_unit": 2**20 * (_resident_mib() - before) / units,
    }


class _Peak:
    """Peak resident set of this process, sampled in a thread."""

    def __init__(self) -> None:
        self._largest, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self._largest = max(self._largest, _resident_mib())

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return max(self._largest, _resident_mib())


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 2**20


def main() -> int:
    """Run the benchmark for the numbers of units on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    with ray_session(WORKERS):
        measure(200)  # warm-up
        results = [measure(units) for units in arguments.units]
    if arguments.json:
        print(json.dumps(results))
    else:
        for result in results:
            print(
                f"{result['units']:>7} units: planned in {result['plan_s']:.3f} s; "
                f"{result['ms_per_unit']:.2f} ms per unit; driver {result['driver_mib_before']:.0f} MiB "
                f"and {result['driver_mib_growth']:.1f} MiB more, {result['bytes_per_unit']:.0f} B per unit"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

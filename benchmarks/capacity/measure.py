"""Measurement of the model's rates, and comparison with real jobs on a store.

The pipeline runs on phantoms, each stage on the output of the one before. Some units of a stage run in this
process, which counts every request to the store. A short job gives the time to start, and its difference
from a longer one the driver time of a unit. Ray is running already, as on a cluster.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]

from benchmarks.capacity.model import Resources, Stage, read_rates, simulate
from benchmarks.capacity.stages import STAGES, Chain, Units
from lungforge.ct.phantoms.generate import write_phantoms
from lungforge.storage import join_uri, open_uri, read_bytes, write_bytes_atomic
from services.common.progress import say
from services.common.ray_session import ray_session

#: For the limits of the store: concurrent processes, reads of each, and bytes of a large object.
_CLIENTS, _SMALL_READS, _LARGE_READS, _LARGE = 8, 200, 8, 4 << 20
#: Assumptions, which cannot be measured on one machine: 10 Gbit/s per host, and workers per host.
_HOST_BYTES_PER_SECOND, _WORKERS_PER_HOST = 1.25e9, 8


@dataclasses.dataclass
class Traffic:
    """Traffic between this process and object storage."""

    requests: int = 0
    bytes: int = 0


@contextlib.contextmanager
def counted() -> Iterator[Traffic]:
    """Count the requests of this process to S3 and their bytes, including failed attempts."""
    traffic = Traffic()
    original = AIOHTTPSession.send

    async def send(self: AIOHTTPSession, request: Any) -> Any:
        response = await original(self, request)
        traffic.requests += 1
        sent = request.headers.get("Content-Length") or request.headers.get("X-Amz-Decoded-Content-Length")
        traffic.bytes += int(sent or 0)
        if request.method != "HEAD":  # its content-length is that of a body which is not sent
            traffic.bytes += int(response.headers.get("content-length", 0))
        return response

    AIOHTTPSession.send = send
    try:
        yield traffic
    finally:
        AIOHTTPSession.send = original


def measure_store(uri: str) -> Resources:
    """Measure the limits of a store, as clients on this machine see them."""
    small, large = join_uri(uri, "small"), join_uri(uri, "large")
    write_bytes_atomic(small, b"x" * 1024)
    write_bytes_atomic(large, bytes(_LARGE))
    with ProcessPoolExecutor(_CLIENTS, multiprocessing.get_context("spawn")) as pool:
        asked = sum(pool.map(_ask, [small] * _CLIENTS, [_SMALL_READS] * _CLIENTS))
        carried = sum(pool.map(_ask, [large] * _CLIENTS, [_LARGE_READS] * _CLIENTS))
    with counted() as traffic:
        alone = 1 / _ask(small, _SMALL_READS)
    requests = traffic.requests / (_SMALL_READS + 1)
    return Resources(
        store_requests_per_second=asked * requests,
        store_bytes_per_second=carried * _LARGE,
        store_latency_seconds=alone / requests,
        host_bytes_per_second=_HOST_BYTES_PER_SECOND,
        workers_per_host=_WORKERS_PER_HOST,
    )


def _ask(name: str, times: int) -> float:
    """Sequential reads of an object per second, in this process, after a first one that connects."""
    read_bytes(name)
    started = time.perf_counter()
    for _ in range(times):
        read_bytes(name)
    return times / (time.perf_counter() - started)


def measure_units(units: Iterable[Callable[[], object]]) -> dict[str, float]:
    """Mean processor time and traffic of units, run one by one; the first is a warm-up."""
    seconds = []
    with counted() as traffic:
        for number, unit in enumerate(units):
            if number == 1:
                traffic.requests = traffic.bytes = 0
            started = time.process_time()
            unit()
            if number:
                seconds.append(time.process_time() - started)
    mean = statistics.mean(seconds)
    return {
        "worker_seconds": mean,
        "variation": statistics.stdev(seconds) / mean,
        "requests": traffic.requests / len(seconds),
        "bytes": traffic.bytes / len(seconds),
    }


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds, and processor seconds of this process, which is the driver."""
    computed, started = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - started, time.process_time() - computed


def measure_stage(chain: Chain, units: Units, resources: Resources) -> Stage:
    """Measure the resources of a unit of a stage; leaves its dataset for the next stage."""
    name = units.name
    say(f"{name}: units")
    taken = measure_units(units.one_by_one(chain))
    units.run(chain, "first", units.short, 1)  # warm-up, not counted
    say(f"{name}: a short job")
    short, driver_short = timed(functools.partial(units.run, chain, "short", units.short, 1))
    say(f"{name}: a longer one")
    _, driver_long = timed(functools.partial(units.run, chain, "long", units.long, 1))
    driver = max(driver_long - driver_short, 0.0) / (units.long - units.short)
    exchanged = units.exchanged(chain)
    stage = Stage(
        name=name,
        unit=units.unit(chain),
        units=units.whole,
        # Training workers do not use the driver, which only polls them twice a second.
        driver_seconds=0.0 if exchanged else driver,
        start_seconds=0.0,
        exchanged_bytes=exchanged,
        **taken,
    )
    working = simulate(dataclasses.replace(stage, units=units.short), resources, 1).seconds
    return dataclasses.replace(stage, start_seconds=max(short - working, 0.0))


def check_stage(chain: Chain, units: Units, stage: Stage, resources: Resources) -> list[dict[str, Any]]:
    """Compare real jobs on one and two workers with the model."""
    rows = []
    units.run(chain, "first", units.short, 1)
    for workers, name in ((1, "long"), (2, "two")):
        say(f"{units.name}: {units.long} units, {workers} workers")
        measured, _ = timed(functools.partial(units.run, chain, name, units.long, workers))
        work = dataclasses.replace(stage, units=units.long)
        predicted = simulate(work, resources, workers).seconds
        rows.append(
            {
                "stage": units.name,
                "units": units.long,
                "workers": workers,
                "predicted": predicted,
                "measured": measured,
                "error": predicted / measured - 1,
            }
        )
    return rows


@contextlib.contextmanager
def chain_at(store: str, preset: str) -> Iterator[Chain]:
    """Phantoms in a store, and Ray with two cores; everything in the store is removed at the end."""
    fs, folder = open_uri(store)
    if not store.startswith("s3://") or _filled(fs, folder):
        raise ValueError(f"--store is {store}: give a new folder in an s3:// bucket")
    torch.set_num_threads(1)  # as in a worker
    with ray_session(2), tempfile.TemporaryDirectory(prefix="lungforge-bench-") as local:
        chain = Chain(store, preset)
        try:
            say("generating phantoms")
            series, size, slices = chain.scan
            write_phantoms(local, series=series, size=size, slices=slices)
            fs.put(f"{local}/", f"{folder}/ct", recursive=True)
            yield chain
        finally:
            if _filled(fs, folder):
                fs.rm(folder, recursive=True)


def _filled(fs: Any, folder: str) -> bool:
    """Whether a folder has any files; some stores list a removed one for a while."""
    return any(name != folder for name in fs.find(folder))


def main(options: argparse.Namespace) -> int:
    """Measure or check; prints JSON or a table, and returns the exit code."""
    try:
        if options.command == "check":
            resources, stages = read_rates(options.rates)
        with chain_at(options.store, options.preset) as chain:
            if options.command == "measure":
                resources = measure_store(join_uri(options.store, "limits"))
                stages = [measure_stage(chain, units, resources) for units in STAGES]
                rates = {"resources": resources, "stages": stages}
                print(json.dumps(rates, default=dataclasses.asdict, indent=1))
                return 0
            by_name = {stage.name: stage for stage in stages}
            rows = []
            for units in STAGES:
                rows += check_stage(chain, units, by_name[units.name], resources)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(rows))
        return 0
    print("| stage | units | workers | predicted, s | measured, s | error |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['stage']} | {row['units']} | {row['workers']} | {row['predicted']:.1f} "
            f"| {row['measured']:.1f} | {row['error']:+.0%} |"
        )
    return 0

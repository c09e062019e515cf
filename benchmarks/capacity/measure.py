"""What the capacity model is made of, and held against: units of work one by one, and whole jobs on a store.

The chain is run on drawn thoraxes, each stage on what the one before made. The first units of a stage are
done in this process, where every request to the store is counted. A short job tells what starting costs, and
the difference of a longer one what a unit takes of the driver. Jobs run in a Ray that is up already, as on a
cluster.
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

#: For the limits of the store: processes that ask at a time, what each reads, and bytes of a large object.
_CLIENTS, _SMALL_READS, _LARGE_READS, _LARGE = 8, 200, 8, 4 << 20
#: What cannot be measured on one machine, and is assumed: 10 Gbit/s a host, and workers on each.
_HOST_BYTES_PER_SECOND, _WORKERS_PER_HOST = 1.25e9, 8


@dataclasses.dataclass
class Traffic:
    """What passed between this process and object storage."""

    requests: int = 0
    bytes: int = 0


@contextlib.contextmanager
def counted() -> Iterator[Traffic]:
    """Count the requests of this process to S3 and their bytes, tries that failed among them."""
    found = Traffic()
    plain = AIOHTTPSession.send

    async def send(self: AIOHTTPSession, request: Any) -> Any:
        response = await plain(self, request)
        found.requests += 1
        sent = request.headers.get("Content-Length") or request.headers.get("X-Amz-Decoded-Content-Length")
        found.bytes += int(sent or 0)
        if request.method != "HEAD":  # whose length is that of what is not sent
            found.bytes += int(response.headers.get("content-length", 0))
        return response

    AIOHTTPSession.send = send
    try:
        yield found
    finally:
        AIOHTTPSession.send = plain


def measure_store(uri: str) -> Resources:
    """The limits of a store, as clients of this machine see them."""
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
    """Reads of an object a second, in this process, one after another; the first connects."""
    read_bytes(name)
    started = time.perf_counter()
    for _ in range(times):
        read_bytes(name)
    return times / (time.perf_counter() - started)


def measure_units(units: Iterable[Callable[[], object]]) -> dict[str, float]:
    """Do units one by one: processor time of each, and traffic. The first loads what is loaded once."""
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
    """Seconds on the clock, and processor time of this process, which is the driver."""
    computed, started = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - started, time.process_time() - computed


def measure_stage(chain: Chain, units: Units, resources: Resources) -> Stage:
    """What a unit of a stage takes; leaves its dataset for the next one."""
    name = units.name
    say(f"{name}: units")
    taken = measure_units(units.one_by_one(chain))
    units.run(chain, "first", units.short, 1)  # not counted: it starts what is started once
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
        # The workers of training have no use for the driver, which looks on twice a second.
        driver_seconds=0.0 if exchanged else driver,
        start_seconds=0.0,
        exchanged_bytes=exchanged,
        **taken,
    )
    working = simulate(dataclasses.replace(stage, units=units.short), resources, 1).seconds
    return dataclasses.replace(stage, start_seconds=max(short - working, 0.0))


def check_stage(chain: Chain, units: Units, stage: Stage, resources: Resources) -> list[dict[str, Any]]:
    """Real jobs on one and on two workers, beside what the model says of them."""
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
    """Thoraxes in a store and a Ray of two cores; all that came of them is removed with the block."""
    fs, folder = open_uri(store)
    if not store.startswith("s3://") or _filled(fs, folder):
        raise ValueError(f"--store is {store}: give a folder in an s3:// bucket that is not there yet")
    torch.set_num_threads(1)  # as a worker computes
    with ray_session(2), tempfile.TemporaryDirectory(prefix="lungforge-bench-") as drawn:
        chain = Chain(store, preset)
        try:
            say("drawing thoraxes")
            series, size, slices = chain.scan
            write_phantoms(drawn, series=series, size=size, slices=slices)
            fs.put(f"{drawn}/", f"{folder}/ct", recursive=True)
            yield chain
        finally:
            if _filled(fs, folder):
                fs.rm(folder, recursive=True)


def _filled(fs: Any, folder: str) -> bool:
    """Whether anything is in a folder; some stores list an empty one for a while after."""
    return any(name != folder for name in fs.find(folder))


def main(chosen: argparse.Namespace) -> int:
    """Measure or check; prints JSON or a table."""
    try:
        if chosen.command == "check":
            resources, stages = read_rates(chosen.rates)
        with chain_at(chosen.store, chosen.preset) as chain:
            if chosen.command == "measure":
                resources = measure_store(join_uri(chosen.store, "limits"))
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
    if chosen.json:
        print(json.dumps(rows))
        return 0
    print("| stage | units | workers | predicted, s | measured, s | error |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['stage']} | {row['units']} | {row['workers']} | {row['predicted']:.1f} "
            f"| {row['measured']:.1f} | {row['error']:+.0%} |"
        )
    return 0

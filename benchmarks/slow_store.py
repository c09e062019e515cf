"""Training on data in a distant store: ``python -m benchmarks.slow_store --store s3://BUCKET/FOLDER``.

The store is a real one, reached by the AWS environment, through a line that delays everything by 30 ms each
way. A device is simulated that takes 100 ms a step, by sleeping; the loader is that of training. One after
another, rows are read one after another as they are needed; read ahead, several at a time, and few kept; and
all kept, as training does where they fit. For each: the share of the time that the device waits for data, in
the first epoch and after it, and the requests to the store.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from benchmarks.sdm import phantom_maps
from benchmarks.slow_line import SlowLine, slow_line
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.shuffling import RowStream
from lungforge.datasets.slices import RowIndex, index_rows
from lungforge.models.learner import Batch, SampleNeeds
from lungforge.storage import join_uri
from services.common.progress import say
from services.train.config import TrainConfig
from services.train.loader import batches_of, loading
from services.train.presets import tiny
from services.train.run import TrainingRun, model_writer

#: Of the line, each way.
DELAY_SECONDS: Final = 0.03
#: A device that is no CPU, without memory: so far ahead are batches made as for a GPU.
_DEVICE: Final = torch.device("meta")
_HU: Final = np.array([-1000, 40, -850, -820, -1000, 30])


@dataclasses.dataclass(frozen=True)
class Waiting:
    """What one way of loading gave.

    Attributes:
        way: Its name.
        first_share: Of the time of the first epoch, that which was waited for data.
        later_share: The same of the later epochs.
        first_requests: Requests to the store in the first epoch.
        later_requests: The same in all later ones.
        processor_seconds: Of this process, for each step.
    """

    way: str
    first_share: float
    later_share: float
    first_requests: int
    later_requests: int
    processor_seconds: float


def write_slices(uri: str, *, count: int, rows: int, side: int) -> Dataset:
    """Write slices of phantoms with noise, so many rows a part, which is one scan."""
    maps, generator = phantom_maps(side), np.random.default_rng(0)
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={"count": count, "rows": rows, "side": side})
    parts = []
    for first in range(0, count, rows):
        labels = [maps[index % len(maps)] for index in range(first, min(first + rows, count))]
        table = [
            {
                "series_uid": f"phantom-{first}",
                "subset": 0,
                "slice_index": index,
                "z_mm": float(index),
                "spacing_mm": [1.0, 1.0],
                "image": (_HU[label] + generator.normal(0, 20, label.shape)).astype(np.int16),
                "label": label,
                "nodules": [],
            }
            for index, label in enumerate(labels)
        ]
        parts.append(writer.write_part(f"{first:06d}", table_from_rows(Kind.SLICES, table)))
    writer.commit(parts)
    return Dataset.open(uri)


def measure(
    way: str, batches: Iterator[Batch], line: SlowLine, *, epoch: int, steps: int, step_seconds: float
) -> Waiting:
    """Take steps of a device that sleeps.

    Args:
        way: Name of the way in which the batches are loaded.
        batches: Those of the steps.
        line: That which the store is reached by.
        epoch: Steps of the first epoch.
        steps: Steps in all.
        step_seconds: How long a step takes.
    """
    asked, waited, lasted, requests = line.requests, [0.0, 0.0], [0.0, 0.0], 0
    computed = time.process_time()
    for step in range(steps):
        later, started = int(step >= epoch), time.perf_counter()
        next(batches)
        waited[later] += time.perf_counter() - started
        time.sleep(step_seconds)
        lasted[later] += time.perf_counter() - started
        if not later:
            requests = line.requests - asked
    return Waiting(
        way,
        first_share=waited[0] / lasted[0],
        later_share=waited[1] / lasted[1],
        first_requests=requests,
        later_requests=line.requests - asked - requests,
        processor_seconds=(time.process_time() - computed) / steps,
    )


def ways(config: TrainConfig, index: RowIndex, steps: range) -> Iterator[tuple[str, Iterator[Batch]]]:
    """The ways of loading by name, each with its batches."""
    needs = SampleNeeds(noise_shape=(1, *index.size))
    everything = len(index) * index.size[0] * index.size[1] * 3
    streams = {
        "one read at a time, when needed": {"budget": 0, "ahead": 0, "readers": 1},
        "read ahead, nothing kept": {"budget": 0},
        "read ahead, half kept": {"budget": everything // 2},
    }
    for way, memory in streams.items():
        with (
            RowStream(
                index,
                batch=config.batch,
                positions=range(config.batch),
                seed=config.seed,
                stop=steps.stop,
                **memory,
            ) as stream,
            contextlib.closing(batches_of(stream, steps, config, needs, _DEVICE)) as batches,
        ):
            yield way, batches
    run = TrainingRun(config, None, index, model_writer(config, index.dataset), None)
    with loading(run, steps, needs, _DEVICE, rank=0, workers=1, local_workers=1) as batches:
        yield "as training does", batches


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_store", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--store", required=True, help="an s3:// folder for temporary data")
    parser.add_argument("--slices", type=int, default=240, help="slices (default: 240)")
    parser.add_argument("--part-rows", type=int, default=2, help="slices of a scan (default: 2)")
    parser.add_argument("--size", type=int, default=64, help="their side in px (default: 64)")
    parser.add_argument("--batch", type=int, default=4, help="images a step (default: 4)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs (default: 4)")
    parser.add_argument("--step", type=float, default=0.1, help="seconds a step of the device (default: 0.1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    uri = join_uri(options.store, "slices")
    write_slices(uri, count=options.slices, rows=options.part_rows, side=options.size)
    epoch = -(-options.slices // options.batch)
    steps = range(epoch * options.epochs)
    config = dataclasses.replace(tiny(uri, join_uri(options.store, "model"), "sdm"), batch=options.batch)
    found = []
    with slow_line(endpoint, DELAY_SECONDS) as line:
        os.environ["AWS_ENDPOINT_URL"] = line.endpoint
        try:
            index = index_rows(Dataset.open(uri))
            for way, batches in ways(config, index, steps):
                taken = {"epoch": epoch, "steps": len(steps), "step_seconds": options.step}
                found.append(measure(way, batches, line, **taken))
                say(_line(found[-1]))
        finally:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in found]))
    else:
        print("\n".join(map(_line, found)))
    return 0


def _line(waiting: Waiting) -> str:
    return (
        f"{waiting.way}: waits {waiting.first_share:.1%} of the first epoch and {waiting.later_share:.1%} "
        f"after it; {waiting.first_requests} and {waiting.later_requests} requests; "
        f"{1000 * waiting.processor_seconds:.1f} ms of processor time a step"
    )


if __name__ == "__main__":
    sys.exit(main())

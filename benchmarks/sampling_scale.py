"""Scaling and overhead of sampling: ``python -m benchmarks.sampling_scale [--json]``.

The diffusion model of the cpu preset, with random weights, samples from maps of phantoms at 64 px with
DPM-Solver++, with one thread per worker. Four variants alternate: a bare loop over the same sampler in one
process, two such loops in two processes, which is the limit of the machine, and the service with one and
with two workers. Each is timed from the first batch to the last part, so that starting Ray and loading
PyTorch, once per run, do not count.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.rounds import log_round, print_rates
from benchmarks.sdm import phantom_maps, randomised
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.models.base import SamplingOptions
from lungforge.models.model_dataset import ModelDetails, write_model
from lungforge.models.sdm.slice_sampler import DiffusionSliceSampler
from lungforge.models.sdm.spec import SPEC
from services.common.ray_session import ray_session
from services.sample import job
from services.sample.config import SampleConfig

BATCH = 8
GUIDANCE = 1.5


def write_inputs(folder: Path) -> tuple[str, str]:
    """Write a slices dataset of eight maps, and a model; returns their URIs."""
    config = SPEC.preset_config("cpu")
    maps = phantom_maps(config.image_size)
    slices = DatasetWriter(uri=str(folder / "slices"), kind=Kind.SLICES, config={})
    rows = [
        {
            "series_uid": f"phantom-{index}",
            "subset": 0,
            "slice_index": 0,
            "z_mm": 0.0,
            "spacing_mm": [5.0, 5.0],
            "image": np.zeros(label.shape, np.int16),
            "label": label,
            "nodules": [],
        }
        for index, label in enumerate(maps)
    ]
    slices.commit([slices.write_part("0", table_from_rows(Kind.SLICES, rows))])
    model = DatasetWriter(uri=str(folder / "model"), kind=Kind.MODEL, config={})
    write_model(model, SPEC, config, randomised(config).state_dict(), ModelDetails())
    return slices.uri, model.uri


def bare_loop(images: int, steps: int) -> float:
    """Images per second of the bare sampler in this process, with one thread."""
    torch.set_num_threads(1)
    config, options = SPEC.preset_config("cpu"), SamplingOptions("dpmpp", steps, GUIDANCE)
    sampler = DiffusionSliceSampler(randomised(config).eval(), options)
    maps = phantom_maps(config.image_size)
    started = time.perf_counter()
    for start in range(0, images, BATCH):
        sampler.sample(maps, [(0, number) for number in range(start, start + BATCH)])
    return images / (time.perf_counter() - started)


def two_bare_loops(images: int, steps: int) -> float:
    """Images per second of two such loops in parallel, in separate processes."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(bare_loop, [images // 2] * 2, [steps] * 2))


def service(slices: str, model: str, out: Path, images: int, steps: int, workers: int) -> float:
    """Images per second of the service over all workers, from the first part to the last."""
    config = SampleConfig(
        model=model,
        data=slices,
        out=str(out),
        count=images,
        sampler="dpmpp",
        steps=steps,
        guidance=GUIDANCE,
        batch=BATCH,
        part_images=2 * BATCH,
        workers=workers,
    )
    result = job.run(config)
    parts = [out / part.path for part in Dataset.open(result.samples).manifest.parts]
    ended = sorted(path.stat().st_mtime for path in parts)
    # Each worker's first part includes its start, so timing begins when all of them have written one.
    images = 2 * BATCH * (len(ended) - workers)
    return images / (ended[-1] - ended[workers - 1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling_scale", description=__doc__)
    parser.add_argument(
        "--images", type=int, default=160, help="images per run, a multiple of 16 (default: 160)"
    )
    parser.add_argument("--steps", type=int, default=20, help="sampler steps (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"bare": [], "two bare": [], "one": [], "two": []}
    with tempfile.TemporaryDirectory() as name, ray_session(2):
        folder = Path(name)
        slices, model = write_inputs(folder)
        size = (arguments.images, arguments.steps)
        for turn in range(arguments.rounds):
            rates["bare"].append(bare_loop(*size))
            rates["two bare"].append(two_bare_loops(*size))
            for way, workers in (("one", 1), ("two", 2)):
                rates[way].append(service(slices, model, folder / f"{way}-{turn}", *size, workers))
            log_round(turn, rates, 3)
    ratios = {
        "service_over_bare": ("one", "bare"),
        "two_over_one": ("two", "one"),
        "two_bare_over_bare": ("two bare", "bare"),
    }
    more = {"images": arguments.images, "steps": arguments.steps, "batch": BATCH}
    print_rates(rates, ratios, more, places=3, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Quality against steps: ``python -m benchmarks.steps --model URI --data URI --maps 0 1 2 --real 3``.

One model samples from the same maps with the same noise, by every sampler and count of steps. Each set is
compared with real slices of scans that the model has not seen: Fréchet distance (EfficientNet-Lite0), mean
and spread over random halves of the real slices, at the same count of images as the real-vs-real baseline
beside it. Seconds an image are those of batches of eight, in this process, with its threads.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import index_rows
from lungforge.errors import InputError
from lungforge.metrics.features import EFFICIENTNET_LITE0, load_extractor
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.real_baseline import BaselineComparison, compare_with_baseline
from lungforge.models.base import Identity, SamplerName, SamplingOptions, SliceSampler
from lungforge.models.model_dataset import ModelDataset
from lungforge.randomness import numpy_generator
from services.common.progress import progress

BATCH = 8
GUIDANCE = 1.5
ARMS: tuple[tuple[SamplerName, int], ...] = (
    ("ancestral", 1000),
    ("ancestral", 250),
    ("ancestral", 50),
    ("ddim", 50),
    ("dpmpp", 15),
    ("dpmpp", 20),
    ("dpmpp", 25),
    ("dpmpp", 30),
)


def sample(
    sampler: SliceSampler, labels: NDArray[np.uint8], identities: Sequence[Identity], title: str
) -> tuple[NDArray[np.int16], float]:
    """Sample an image of each map, in batches of eight: HU [N, H, W], and seconds an image."""
    images = []
    started = time.perf_counter()
    with progress(title, len(labels), unit="images") as advance:
        for start in range(0, len(labels), BATCH):
            batch = slice(start, start + BATCH)
            images.append(sampler.sample(labels[batch], identities[batch]))
            advance(len(images[-1]))
    return np.concatenate(images), (time.perf_counter() - started) / len(labels)


def compare_with_real(
    reference: NDArray[np.float32], scans: Sequence[str], features: NDArray[np.float32]
) -> BaselineComparison | None:
    """The Fréchet distance of sampled images to halves of the real ones, beside that between the halves.

    Args:
        reference: Features ``[N, D]`` of the real slices.
        scans: The scan of each of them.
        features: Of the sampled images, ``[M, D]``.

    Returns:
        The comparison, over the same halves for every set of images; None where all slices are of one scan.
    """
    return compare_with_baseline(
        reference, scans, features, frechet_distance_of_features, numpy_generator(0, "steps")
    )


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--model", required=True, help="a diffusion model, as `lungforge train` made it")
    parser.add_argument("--data", required=True, help="slices: maps to sample from, and real ones")
    parser.add_argument(
        "--maps", type=int, nargs="+", required=True, help="subsets whose maps are sampled from"
    )
    parser.add_argument("--real", type=int, nargs="+", required=True, help="subsets of the real slices")
    parser.add_argument("--images", type=int, default=128, help="images of each set (default: 128)")
    parser.add_argument("--longest", type=int, default=1000, help="leave out what has more steps than this")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args()
    try:
        model, data = ModelDataset.open(arguments.model), Dataset.open(arguments.data, Kind.SLICES)
        maps, real = index_rows(data, arguments.maps), index_rows(data, arguments.real)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    extractor = load_extractor(EFFICIENTNET_LITE0)
    chosen = np.linspace(0, len(maps) - 1, min(arguments.images, len(maps))).round().astype(int)
    labels = np.stack([row.label for row in maps.read(chosen)])
    rows = real.read(range(len(real)))
    reference = extractor.embed(np.stack([row.image for row in rows]))
    scans = [scan_of(row.series_uid) for row in rows]
    identities = [("steps", number) for number in range(len(labels))]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results: list[dict[str, Any]] = []
    for sampler, steps in ARMS:
        if steps > arguments.longest:
            continue
        options = SamplingOptions(sampler, steps, GUIDANCE)
        slice_sampler = model.sampler(options, device, classes=classes.COUNT)
        images, seconds = sample(slice_sampler, labels, identities, f"{sampler} {steps}")
        compared = compare_with_real(reference, scans, extractor.embed(images))
        assert compared is not None
        results.append(
            {"sampler": sampler, "steps": steps, "seconds_per_image": seconds, **dataclasses.asdict(compared)}
        )
        if not arguments.json:
            print(
                f"{sampler:>9} {steps:>4}: {compared.synthetic_mean:6.1f} +- {compared.synthetic_spread:.1f} "
                f"(baseline {compared.real_mean:.1f} +- {compared.real_spread:.1f}, n = {compared.images}); "
                f"{seconds:.3f} s an image",
                flush=True,
            )
    if arguments.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

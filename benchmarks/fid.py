"""What embedding slices for the FID costs: ``python -m benchmarks.fid [--images 2000] [--json]``.

The service reads slices from Parquet and embeds them by pytorch-fid's Inception, with one worker and with
two, each of one thread. Against it stands pytorch-fid's own program (``--save-stats``: read and embed, no
distance) on the same slices as PNG files, also with one thread. The weights are random: they cost the same.
The three take turns. Starting Python and Ray and loading the network do not count: the service is timed from
the part with which each worker has done its first, and pytorch-fid less what it takes for two pictures.
"""

import argparse
import hashlib
import io
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import ray
import torch
import torchvision
from PIL import Image

from benchmarks.rounds import log_round, print_rates
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.metrics.features import INCEPTION_FILE, INCEPTION_V3, load_extractor
from lungforge.randomness import numpy_generator, torch_generator
from services.common.ray_session import ray_session
from services.common.ray_tasks import run_tasks
from services.eval.feature_cache import Network
from services.eval.part_tasks import read_real_part
from services.eval.records import RealSource

SIDE = 256
PART = 32
_OVERHEAD_PICTURES = 2


def random_weights(seed: int = 0) -> bytes:
    """A file of random weights for pytorch-fid's Inception, under which signals keep their strength."""
    # The plan of torchvision's network is that of pytorch-fid's, which cannot be built without its weights.
    network = torchvision.models.inception_v3(
        weights=None, num_classes=1008, aux_logits=False, init_weights=False
    )
    generator = torch_generator(seed, "inception")
    state = network.state_dict()
    for value in state.values():
        if value.ndim == 4:
            # He et al., "Delving Deep into Rectifiers", 2015.
            value.normal_(std=math.sqrt(2 / value[0].numel()), generator=generator)
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def write_inputs(folder: Path, images: int) -> Dataset:
    """The same slices as a dataset and as ``png/*.png``, and a cache of torch with the weights."""
    (folder / "png").mkdir()
    (folder / "few").mkdir()
    checkpoints = folder / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / INCEPTION_FILE).write_bytes(random_weights())
    writer = DatasetWriter(uri=str(folder / "slices"), kind=Kind.SLICES, config={})
    parts = []
    for start in range(0, images, PART):
        rows = [_row(number) for number in range(start, min(start + PART, images))]
        parts.append(writer.write_part(f"{start:06}", table_from_rows(Kind.SLICES, rows)))
        for row in rows:
            picture = Image.fromarray(hu_to_uint8(row["image"]))
            picture.save(folder / "png" / f"{row['slice_index']:06}.png")
            if row["slice_index"] < _OVERHEAD_PICTURES:
                picture.save(folder / "few" / f"{row['slice_index']:06}.png")
    writer.commit(parts)
    return Dataset.open(writer.uri, Kind.SLICES)


def _row(number: int) -> dict:
    """A slice of noise as strong as that of a CT."""
    noise = numpy_generator("fid benchmark", number).normal(-400, 150, size=(SIDE, SIDE))
    return {
        "series_uid": "noise",
        "subset": 0,
        "slice_index": number,
        "z_mm": 0.0,
        "spacing_mm": [1.4, 1.4],
        "image": noise.astype(np.int16),
        "label": np.ones((SIDE, SIDE), np.uint8),
        "nodules": [],
    }


def service(slices: Dataset, network: Network, workers: int) -> float:
    """Images per second of the service over all workers."""
    source = ray.put(RealSource(slices, None, None, network, segmented=False, cut=None))
    work = [(source, part) for part in slices.parts]
    assert len(work) > workers, "more images, so that there is something to time after the workers' start"
    ended = []
    task = read_real_part.options(num_returns=3)
    for _ in run_tasks(lambda given: task.remote(*given), work, workers):
        ended.append(time.perf_counter())
    embedded = sum(part.rows for part in slices.parts[workers:])
    return embedded / (ended[-1] - ended[workers - 1])


def pytorch_fid(folder: Path, images: int) -> float:
    """Images per second of pytorch-fid's own program."""
    return (images - _OVERHEAD_PICTURES) / (timed(folder, "png") - timed(folder, "few"))


def timed(folder: Path, pictures: str) -> float:
    """Seconds that pytorch-fid takes for one folder of pictures."""
    (folder / "statistics.npz").unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytorch_fid", "--save-stats", "--device", "cpu", "--num-workers", "0"]
    started = time.perf_counter()
    subprocess.run(
        [*command, folder / pictures, folder / "statistics.npz"],
        env={**os.environ, "TORCH_HOME": str(folder / "torch"), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fid", description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="of each run (default: 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rates: dict[str, list[float]] = {"pytorch-fid": [], "one": [], "two": []}
    with tempfile.TemporaryDirectory() as name, ray_session(2):
        folder = Path(name)
        slices = write_inputs(folder, arguments.images)
        weights = folder / "torch" / "hub" / "checkpoints" / INCEPTION_FILE
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        extractor = load_extractor(INCEPTION_V3, weights=weights.read_bytes(), weights_sha256=sha256)
        network = Network(extractor.description, str(weights))
        for turn in range(arguments.rounds):
            rates["pytorch-fid"].append(pytorch_fid(folder, arguments.images))
            rates["one"].append(service(slices, network, 1))
            rates["two"].append(service(slices, network, 2))
            log_round(turn, rates, 2)
    ratios = {
        "one_over_pytorch_fid": ("one", "pytorch-fid"),
        "two_over_one": ("two", "one"),
    }
    more = {"images": arguments.images, "side": SIDE}
    print_rates(rates, ratios, more, places=2, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long a checkpoint stops training: ``python -m benchmarks.checkpoint_pause [--channels 128]``.

A state of the size of the published network (``luna256``, or of another base width), filled with noise, is
saved to a local folder: weights, both moments of the optimiser, and the average. The pause is what
``CheckpointStore.save`` takes before it returns; "written after" is when the files are there. Beside it, in
the same run, is the time to make the state into files, which is what a step would wait for without copies.
It needs memory of twice the state and the largest file: 22 GiB for the published network.
"""

import argparse
import json
import sys
import tempfile
import time

import torch

from lungforge.models.checkpoint import to_safetensors
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.unet import SemanticUNet
from services.train.checkpoints import Checkpoint, CheckpointStore

_GROUPS = ("network_weights", "network_first_moments", "network_second_moments", "average")


def noisy_state(base_channels: int) -> dict[str, dict[str, torch.Tensor]]:
    """A state of the published network at some base width, of noise."""
    config = UNetConfig(image_size=256, base_channels=base_channels)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in SemanticUNet(config).state_dict().items()}
    return {group: {name: torch.randn(shape) for name, shape in shapes.items()} for group in _GROUPS}


def main() -> int:
    """Measure and print; with ``--json``, one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint_pause", description=__doc__)
    parser.add_argument("--channels", type=int, default=128, help="base width (published: 256)")
    parser.add_argument("--repeats", type=int, default=3, help="checkpoints (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    state = noisy_state(arguments.channels)
    size = sum(value.nbytes for group in state.values() for value in group.values()) / 2**30
    serialised, paused, written = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, CheckpointStore(folder, "0" * 64, keep=1) as store:
        for repeat in range(arguments.repeats):
            started = time.perf_counter()
            for group in state.values():
                to_safetensors(group)
            serialised.append(time.perf_counter() - started)
            started = time.perf_counter()
            store.save(Checkpoint(repeat + 1, state, torch.zeros(1, 1, dtype=torch.float64)))
            paused.append(time.perf_counter() - started)
            store.wait()
            written.append(time.perf_counter() - started)
    times = {"into_files_s": serialised, "pause_s": paused, "written_after_s": written}
    if arguments.json:
        print(json.dumps({"GiB": size, **times}))
    else:
        print(f"state of {size:.2f} GiB, seconds of each checkpoint:")
        for name, values in times.items():
            print(f"  {name:<16} {' '.join(f'{value:.2f}' for value in values)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

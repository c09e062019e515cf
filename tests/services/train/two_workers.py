"""One of two workers that train together: with float32 between them, and then with bfloat16.

python two_workers.py RANK SLICES FOLDER
"""

import dataclasses
import sys
from pathlib import Path

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lungforge.datasets import Dataset, Kind
from services.train.collectives import compress_gradients
from services.train.config import TrainConfig
from services.train.loop import train
from services.train.presets import tiny
from services.train.run import model_writer, prepare

STEPS = 20


def small_config(slices: str, out: Path, *, compressed: bool) -> TrainConfig:
    """A run of two workers on the smallest network."""
    preset = tiny(slices, str(out), workers=2)
    network = dataclasses.replace(preset.network, channel_multipliers=(1,), attention_sizes=())
    return dataclasses.replace(
        preset,
        network=network,
        batch=4,
        steps=STEPS,
        warmup_steps=2,
        preview_every=0,
        compress_gradients=compressed,
    )


def main(rank: int, slices: str, folder: Path) -> None:
    """Train twice, in FOLDER/False and in FOLDER/True."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    for compressed in (False, True):
        config = small_config(slices, folder / str(compressed), compressed=compressed)
        data = Dataset.open(slices, Kind.SLICES)

        def distribute(module: nn.Module, compressed: bool = compressed) -> nn.Module:
            shared = DistributedDataParallel(module)
            return compress_gradients(shared) if compressed else shared

        run = prepare(config, data, model_writer(config, data))
        done = train(run, lambda *_: None, rank=rank, workers=2, local_workers=2, distribute=distribute)
        assert done == STEPS
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

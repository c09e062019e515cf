"""One of two workers that train together: with float32 between them, with bfloat16, and interrupted.

python two_workers.py RANK SLICES FOLDER
"""

import dataclasses
import itertools
import sys
from pathlib import Path

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lungforge.datasets import Dataset, Kind
from services.train.checkpoints import CheckpointStore
from services.train.collectives import compress_gradients
from services.train.config import TrainConfig
from services.train.loop import train
from services.train.presets import tiny
from services.train.run import model_writer, prepare
from services.train.worker import Stop

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
    """Train in FOLDER/float32, in FOLDER/bfloat16, and in FOLDER/resumed with a stop half-way."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    data = Dataset.open(slices, Kind.SLICES)

    def run(name: str, *, compressed: bool = False, stop: Stop = lambda: False) -> int:
        config = small_config(slices, folder / name, compressed=compressed)

        def distribute(module: nn.Module) -> nn.Module:
            shared = DistributedDataParallel(module)
            return compress_gradients(shared) if compressed else shared

        prepared = prepare(config, data, model_writer(config, data))
        return train(
            prepared, lambda *_: None, stop=stop, rank=rank, workers=2, local_workers=2, distribute=distribute
        )

    assert run("float32") == run("bfloat16", compressed=True) == STEPS
    asked = itertools.count()
    assert run("resumed", stop=lambda: next(asked) == STEPS // 2) == STEPS // 2
    if rank:
        # The first worker reads the checkpoint, for both.
        del CheckpointStore.load, CheckpointStore.newest
    assert run("resumed") == STEPS
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

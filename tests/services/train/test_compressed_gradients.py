"""Gradients that two workers exchange in bfloat16: losses stay what they are with float32, nearly."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lungforge.config import identity
from lungforge.datasets import Dataset, Kind
from services.train.collectives import compress_gradients
from services.train.config import TrainConfig
from services.train.loop import train
from services.train.presets import tiny
from services.train.run import model_writer, prepare


def _config(slices: str, out: Path, *, compressed: bool) -> TrainConfig:
    preset = tiny(slices, str(out), workers=2)
    network = dataclasses.replace(preset.network, channel_multipliers=(1,), attention_sizes=())
    return dataclasses.replace(
        preset,
        network=network,
        batch=4,
        steps=20,
        warmup_steps=2,
        preview_every=0,
        compress_gradients=compressed,
    )


def _work(rank: int, slices: str, folder: Path) -> None:
    """One of two workers: trains with float32 between them, and then with bfloat16."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    for compressed in (False, True):
        config = _config(slices, folder / str(compressed), compressed=compressed)
        data = Dataset.open(slices, Kind.SLICES)

        def distribute(module: nn.Module, compressed: bool = compressed) -> nn.Module:
            shared = DistributedDataParallel(module)
            return compress_gradients(shared) if compressed else shared

        run = prepare(config, data, model_writer(config, data))
        done = train(run, lambda *_: None, rank=rank, workers=2, local_workers=2, distribute=distribute)
        assert done == 20
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_reach_the_losses_of_float32(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(_work, args=(slices, tmp_path), nprocs=2)
    whole, rounded = (
        json.loads(Dataset.open(str(tmp_path / name)).read_file("history.json")) for name in ("False", "True")
    )
    # The first gradients are of the same weights, and rounded by 2^-9 twice.
    first, second = whole["gradient_norm"][0], rounded["gradient_norm"][0]
    assert first != second
    assert second == pytest.approx(first, rel=2**-8)
    assert rounded["loss"] != whole["loss"]
    assert np.allclose(rounded["loss"], whole["loss"], rtol=0.01)


def test_one_worker_has_nothing_to_compress() -> None:
    module = nn.Linear(2, 2)
    assert compress_gradients(module) is module


def test_the_option_is_part_of_what_the_run_is_only_where_it_is_given(slices: str, tmp_path: Path) -> None:
    plain, compressed = (_config(slices, tmp_path, compressed=given) for given in (False, True))
    assert "compress_gradients" not in identity(plain)
    assert identity(compressed) == identity(plain) | {"compress_gradients": True}

"""Named configurations of training: tiny for tests, cpu for two cores, luna256 as published."""

import dataclasses
from collections.abc import Callable

from services.train.config import ModelName, TrainConfig

#: What makes a configuration for where the data are, where the model goes, and the generator.
Preset = Callable[[str, str, ModelName], TrainConfig]


def luna256(data: str, out: str, model: ModelName = "sdm") -> TrainConfig:
    """The published setting, at 256 px; a GPU a worker, in bfloat16."""
    return dataclasses.replace(
        published(data, out, model), precision="bfloat16", gpus_per_worker=1, cpus_per_worker=4
    )


def cpu(data: str, out: str, model: ModelName = "sdm") -> TrainConfig:
    """About an hour on two cores, at 64 px."""
    common = TrainConfig(
        data=data,
        out=out,
        batch=8,
        warm_up=100,
        average_decay=0.999,
        cpus_per_worker=2,
        checkpoint_every=250,
        preview_every=500,
    )
    if model == "gaugan":
        return dataclasses.replace(
            common,
            **_GAUGAN,
            base_channels=16,
            channel_multipliers=(16, 8, 4, 2, 1),
            latent_channels=64,
            discriminator_channels=32,
            steps=3000,
            learning_rate=1e-4,
        )
    return dataclasses.replace(
        common,
        base_channels=32,
        channel_multipliers=(1, 2, 3, 4),
        attention_sizes=(16, 8),
        head_channels=32,
        steps=3000,
        learning_rate=3e-4,
    )


def tiny(data: str, out: str, model: ModelName = "sdm") -> TrainConfig:
    """Seconds to a minute on a CPU, at 32 px: for tests and the demonstration."""
    common = TrainConfig(
        data=data, out=out, batch=8, steps=300, warm_up=20, average_decay=0.99, checkpoint_every=100
    )
    if model == "gaugan":
        return dataclasses.replace(
            common,
            **_GAUGAN,
            base_channels=8,
            channel_multipliers=(8, 4, 2, 1),
            latent_channels=16,
            discriminator_channels=8,
            learning_rate=2e-4,
        )
    return dataclasses.replace(
        common,
        base_channels=32,
        channel_multipliers=(1, 2),
        residual_blocks=1,
        attention_sizes=(16,),
        head_channels=32,
        learning_rate=1e-3,
    )


def published(data: str, out: str, model: ModelName = "sdm") -> TrainConfig:
    """What holds without a preset: the published networks, in float32, wherever the workers run."""
    plain = TrainConfig(data=data, out=out)
    if model == "gaugan":
        return dataclasses.replace(
            plain, **_GAUGAN, base_channels=64, channel_multipliers=(16, 16, 16, 8, 4, 2, 1)
        )
    return plain


#: What the baseline does differently, whatever its size. Its optimiser scales gradients by itself.
_GAUGAN: dict = {"model": "gaugan", "map_drop": 0.0, "clip": None}

#: Name on the command line to the function that makes the configuration; None where no preset is named.
PRESETS: dict[str | None, Preset] = {None: published, "tiny": tiny, "cpu": cpu, "luna256": luna256}

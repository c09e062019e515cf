"""Named configurations of training: tiny for tests, cpu for two cores, luna256 as published.

The networks and what their training needs are presets of each generator, beside its code; what is the same
for all generators stands here.
"""

from collections.abc import Callable
from typing import Any

from lungforge.errors import InputError
from lungforge.models.registry import load_generator
from services.train.config import TrainConfig

#: Makes a configuration from where the data are, where the model goes, and the generator.
TrainPreset = Callable[[str, str, str], TrainConfig]


def published(data: str, out: str, model: str = "sdm") -> TrainConfig:
    """What holds without a preset: the published networks, in float32, wherever the workers run."""
    return _preset("luna256", data, out, model)


def luna256(data: str, out: str, model: str = "sdm") -> TrainConfig:
    """The published setting, at 256 px; a GPU a worker, in bfloat16."""
    return _preset("luna256", data, out, model, precision="bfloat16", gpus_per_worker=1, cpus_per_worker=4)


def cpu(data: str, out: str, model: str = "sdm") -> TrainConfig:
    """About an hour on two cores, at 64 px."""
    return _preset(
        "cpu",
        data,
        out,
        model,
        batch=8,
        steps=3000,
        warmup_steps=100,
        ema_decay=0.999,
        cpus_per_worker=2,
        checkpoint_every=250,
        preview_every=500,
    )


def tiny(data: str, out: str, model: str = "sdm") -> TrainConfig:
    """Seconds to a minute on a CPU, at 32 px: for tests and the demonstration."""
    return _preset(
        "tiny", data, out, model, batch=8, steps=300, warmup_steps=20, ema_decay=0.99, checkpoint_every=100
    )


def _preset(name: str, data: str, out: str, model: str, **values: Any) -> TrainConfig:
    presets = load_generator(model).presets
    if name not in presets:
        raise InputError(f"{model} has no preset {name!r}; choose one of {', '.join(presets)}")
    preset = presets[name]
    return TrainConfig(
        data=data,
        out=out,
        model=model,
        network=preset.network,
        learner=preset.learner,
        learning_rate=preset.learning_rate,
        decay=preset.decay,
        max_grad_norm=preset.max_grad_norm,
        **values,
    )


#: Name on the command line to the function that makes the configuration; None where no preset is named.
PRESETS: dict[str | None, TrainPreset] = {None: published, "tiny": tiny, "cpu": cpu, "luna256": luna256}

"""Named configurations of training: tiny for tests, cpu for two cores, luna256 as published, two for GPUs.

The networks and what their training needs are presets of each generator, beside its code; what is the same
for all generators stands here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lungforge.errors import InputError
from lungforge.models.registry import load_generator
from services.train.config import TrainConfig

#: Makes a configuration from where the data are, where the model goes, the generator, and the workers.
TrainPreset = Callable[..., TrainConfig]

#: Images of each worker in a step, as published: what fills a GPU at 256 px.
_PUBLISHED_BATCH = 4
#: The same of the smaller networks for GPUs, and their steps.
_SMALLER: Mapping[str, int] = {"images": 8, "steps": 100_000}
#: Images in a step of the presets for CPUs, over all workers.
_SHARED_BATCH = 8


def luna256(data: str, out: str, model: str = "sdm", workers: int = 1) -> TrainConfig:
    """The published setting, at 256 px: a GPU for each worker, in bfloat16."""
    return _on_gpus("luna256", data, out, model, workers, images=_PUBLISHED_BATCH)


def luna256_edm(data: str, out: str, model: str = "sdm", workers: int = 1) -> TrainConfig:
    """Half the width of the published network, at 256 px: about a day on one GPU of 24 GB, in bfloat16."""
    return _on_gpus("luna256-edm", data, out, model, workers, **_SMALLER)


def luna512_patch(data: str, out: str, model: str = "sdm", workers: int = 1) -> TrainConfig:
    """The same on patches of 256 px, of slices of 512 px, with their place in the slice."""
    return _on_gpus("luna512-patch", data, out, model, workers, **_SMALLER, patch=256)


def _on_gpus(
    name: str, data: str, out: str, model: str, workers: int, *, images: int, **values: Any
) -> TrainConfig:
    """A GPU for each worker, with so many images."""
    return _preset(
        name,
        data,
        out,
        model,
        workers,
        batch=images * max(workers, 1),
        precision="bfloat16",
        gpus_per_worker=1,
        cpus_per_worker=4,
        **values,
    )


def cpu(data: str, out: str, model: str = "sdm", workers: int = 1) -> TrainConfig:
    """About an hour on two cores, at 64 px."""
    return _preset(
        "cpu",
        data,
        out,
        model,
        workers,
        batch=_shared(workers),
        steps=3000,
        warmup_steps=100,
        cpus_per_worker=2,
        checkpoint_every=250,
        preview_every=500,
    )


def tiny(data: str, out: str, model: str = "sdm", workers: int = 1) -> TrainConfig:
    """Seconds to a minute on a CPU, at 32 px: for tests and the demo."""
    return _preset(
        "tiny",
        data,
        out,
        model,
        workers,
        batch=_shared(workers),
        steps=300,
        warmup_steps=20,
        checkpoint_every=100,
    )


def _shared(workers: int) -> int:
    """The least multiple of the workers from 8 upwards, so that they share it equally."""
    return -(-_SHARED_BATCH // max(workers, 1)) * max(workers, 1)


def _preset(name: str, data: str, out: str, model: str, workers: int, **values: Any) -> TrainConfig:
    presets = load_generator(model).presets
    if name not in presets:
        raise InputError(f"{model} has no preset {name!r}; choose one of {', '.join(presets)}")
    preset = presets[name]
    return TrainConfig(
        data=data,
        out=out,
        model=model,
        workers=workers,
        network=preset.network,
        learner=preset.learner,
        learning_rate=preset.learning_rate,
        max_grad_norm=preset.max_grad_norm,
        decay=preset.decay,
        **values,
    )


#: Name on the command line to the function that makes the configuration.
PRESETS: dict[str, TrainPreset] = {
    "tiny": tiny,
    "cpu": cpu,
    "luna256": luna256,
    "luna256-edm": luna256_edm,
    "luna512-patch": luna512_patch,
}

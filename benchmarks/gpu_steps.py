"""A training and a sampling step of any network on any device, for ``gpu_readiness`` and ``gpu``."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lungforge.models.base import DataShape, Preset, SamplingOptions
from lungforge.models.device_choices import Precision
from lungforge.models.learner import Batch, Distribute, Learner
from lungforge.models.registry import load_generator
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.slice_sampler import DiffusionSliceSampler
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.randomness import torch_generator


@dataclass(frozen=True)
class StepSettings:
    """``TrainingSettings`` of a step by itself; see there."""

    batch: int
    precision: Precision = "float32"
    learning_rate: float = 1e-4
    max_grad_norm: float | None = 1.0
    seed: int = 0
    warmup_steps: int = 0
    steps: int = 1000
    decay: float = 0.0
    average_lengths: tuple[float, ...] = (0.1,)


def network_of(preset: Preset, model: str = "sdm", size: int | None = None) -> Any:
    """The network of a preset, for images of the size that it is meant for, or of another."""
    shape = DataShape(size or preset.image_size)
    return load_generator(model).config(preset.network, shape, preset.learner)


def learner_of(
    preset: Preset, network: Any, settings: StepSettings, distribute: Distribute, model: str = "sdm"
) -> Learner:
    """The learner of a preset, with the averages that the first worker keeps."""
    spec = load_generator(model)
    return spec.learner(network, preset.learner, settings, distribute=distribute, averages=True)


def chest_labels(count: int, size: int) -> NDArray[np.uint8]:
    """Maps of the plainest chest: a body with two lungs and a nodule, uint8 [count, size, size]."""
    rows, columns = (np.indices((size, size)) + 0.5) / size
    label = np.zeros((size, size), np.uint8)
    label[((rows - 0.5) / 0.38) ** 2 + ((columns - 0.5) / 0.46) ** 2 < 1] = 1
    for side, middle in ((3, 0.3), (2, 0.7)):
        label[((rows - 0.5) / 0.25) ** 2 + ((columns - middle) / 0.14) ** 2 < 1] = side
    label[((rows - 0.55) ** 2 + (columns - 0.32) ** 2) < 0.03**2] = 5
    return np.repeat(label[None], count, axis=0)


def batch_of(learner: Learner, count: int, size: int, step: int = 0) -> Batch:
    """A batch of noise on maps of chests; what is random in it depends on the step alone."""
    generator = torch_generator(0, "gpu_steps", step)
    times = [learner.needs.draw_time(generator) for _ in range(count)]
    return Batch(
        images=torch.randn(count, 1, size, size, generator=generator).clamp(-1, 1),
        labels=torch.from_numpy(chest_labels(count, size)),
        times=torch.tensor(times),
        noise=torch.randn(count, *learner.needs.noise_shape, generator=generator),
        places=torch.zeros(count, 4),
    )


def sampler_of(
    config: UNetConfig, device: torch.device, options: SamplingOptions | None = None
) -> DiffusionSliceSampler:
    """A sampler with a network that was not trained."""
    torch.manual_seed(0)
    network = SemanticUNet(config)
    # The layers that start at zero would hide all others.
    if device.type != "meta":
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    return DiffusionSliceSampler(network.to(device).eval(), options or SamplingOptions())

"""From rows to the tensors of a step. What is random about a sample depends on its global number only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lungforge.ct import classes
from lungforge.ct.label_map import flip_label
from lungforge.ct.window import hu_to_unit
from lungforge.datasets.patches import cut_patch
from lungforge.datasets.slices import SliceRow
from lungforge.models.spade import one_hot
from lungforge.randomness import numpy_generator, torch_generator
from services.train.config import TrainConfig


@dataclass(frozen=True)
class Batch:
    """What a worker trains on in a step.

    Attributes:
        images: float32 [N, 1, H, W] in [-1, 1].
        maps: One-hot [N, classes, H, W]; all zeros where the map is hidden.
        timesteps: int64 [N].
        noise: Standard normal [N, ...].
    """

    images: Tensor
    maps: Tensor
    timesteps: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        moved = (
            value.to(device, non_blocking=True)
            for value in (self.images, self.maps, self.timesteps, self.noise)
        )
        return Batch(*moved)

    def cut(self, pieces: int) -> list["Batch"]:
        """The same in pieces of equal length, in order."""
        values = (self.images, self.maps, self.timesteps, self.noise)
        return [Batch(*piece) for piece in zip(*(value.chunk(pieces) for value in values), strict=True)]


def make_batch(
    rows: Sequence[SliceRow],
    samples: Sequence[int],
    config: TrainConfig,
    *,
    noise_shape: tuple[int, ...],
    timesteps: int,
) -> Batch:
    """Build the tensors of a step.

    Args:
        rows: The slices.
        samples: The global number of each: it decides patch, flip, hidden map, timestep and noise.
        config: Of the run.
        noise_shape: Of the noise of a sample.
        timesteps: Steps of the diffusion process.

    Raises:
        InputError: A map holds an unknown class.
    """
    images, labels, hidden, steps, noise = [], [], [], [], []
    for row, sample in zip(rows, samples, strict=True):
        if config.patch is not None:
            row = cut_patch(row, config.patch, numpy_generator(config.seed, "patch", sample))
        generator = torch_generator(config.seed, "sample", sample)
        mirrored, concealed = torch.rand(2, generator=generator).tolist()
        flip = mirrored < config.flip
        images.append(hu_to_unit(row.image[:, ::-1] if flip else row.image))
        labels.append(flip_label(row.label) if flip else row.label)
        hidden.append(concealed < config.map_drop)
        steps.append(int(torch.randint(timesteps, (1,), generator=generator)))
        noise.append(torch.randn(noise_shape, generator=generator))
    maps = one_hot(torch.from_numpy(np.stack(labels)), classes.COUNT)
    maps[torch.tensor(hidden)] = 0
    return Batch(
        images=torch.from_numpy(np.stack(images))[:, None],
        maps=maps,
        timesteps=torch.tensor(steps),
        noise=torch.stack(noise),
    )

"""What the samplers of all generators share: noise by identity, one-hot maps, and Hounsfield units."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungforge.ct.window import unit_to_hu
from lungforge.errors import ContentError
from lungforge.models.base import Identity
from lungforge.models.device_choices import sent
from lungforge.randomness import torch_generator


class IdentityNoise:
    """Standard normal noise; that of each image comes from a random generator of its own.

    It is made on the CPU, so that every kind of device starts from the same values. Each call gives fresh
    ones, [N, *shape].

    Args:
        identities: Of the images.
        shape: Of the noise of an image.
        device: Where the noise goes.
    """

    def __init__(self, identities: Sequence[Identity], shape: tuple[int, ...], device: torch.device) -> None:
        self._generators = [torch_generator(*identity) for identity in identities]
        self._shape, self._device = shape, device

    def __call__(self, step: int | None = None) -> Tensor:
        """Fresh noise, [N, *shape]; the step does not matter."""
        noise = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        return sent(torch.stack(noise), self._device)


class NotFiniteError(ContentError):
    """A network's images are not numbers. An int16 cast would turn them into 0 HU, without a word.

    Attributes:
        positions: Of the images in their batch.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(f"{len(positions)} of the images are not finite (NaN or infinite)")
        self.positions = tuple(positions)


def to_hu(images: Tensor) -> NDArray[np.int16]:
    """Images [N, C, H, W] in [-1, 1] as HU [N, H, W].

    Raises:
        NotFiniteError: An image has a value that is NaN or infinite.
    """
    images = images.cpu()
    bad = (~images.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
    if bad:
        raise NotFiniteError(bad)
    # A network of three channels was trained on three equal ones.
    return unit_to_hu(images.float().mean(1).numpy())

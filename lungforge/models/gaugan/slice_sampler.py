"""Slices from maps, by a GauGAN, in one pass."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.models.base import Identity
from lungforge.models.gaugan.generator import Generator, generate
from lungforge.models.sampling import IdentityNoise, to_hu
from lungforge.models.spade import one_hot


class GauGANSliceSampler:
    """Samples with a GauGAN; a ``SliceSampler``.

    Args:
        generator: Folded, in evaluation mode, on its device.
    """

    sampler = "gaugan"
    steps = 1
    guidance = 1.0

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @torch.inference_mode()
    def sample(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        places: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int16]:
        """Sample an image for each map; see ``SliceSampler``."""
        config = self.generator.config
        device = next(self.generator.parameters()).device
        maps = one_hot(torch.from_numpy(labels).to(device), config.classes)
        noise = IdentityNoise(identities, (config.latent_channels,), device)
        return to_hu(generate(self.generator, maps, noise() if config.latent_channels else None))

"""Drawing CT slices from maps with a trained network.

An image depends on its identity, its map, and the settings, never on who draws it or in which order. The
batch that it is drawn in can change the rounding of its numbers, and nothing else.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lungforge.ct.window import unit_to_hu
from lungforge.randomness import torch_generator
from lungforge.sdm.denoiser import guided_denoiser, null_map
from lungforge.sdm.diffusion import Schedule
from lungforge.sdm.samplers import sample_ancestral, sample_ddim, sample_dpmpp_2m
from lungforge.sdm.unet import SemanticUNet, one_hot

#: Names of the samplers: ancestral with learned variance, DDIM, DPM-Solver++(2M).
SamplerName = Literal["ancestral", "ddim", "dpmpp"]

#: What names an image: the seed and whatever tells it from the others.
Identity = tuple[int | str, ...]


class Painter:
    """A network with all that is computed once a job.

    Args:
        network: In evaluation mode, on its device.
        sampler: Which sampler.
        steps: Steps of the sampler, spread evenly over those of training; for dpmpp evenly in the logarithm
            of the signal-to-noise ratio, which its order of convergence is stated in.
        guidance: Scale of classifier-free guidance; 1 is the conditional model.
    """

    def __init__(self, network: SemanticUNet, *, sampler: SamplerName, steps: int, guidance: float) -> None:
        self.network = network
        self.sampler: SamplerName = sampler
        self.guidance = guidance
        self.schedule = Schedule.linear().respace(f"snr{steps}" if sampler == "dpmpp" else str(steps))
        with torch.inference_mode():
            self._null = network.condition(null_map(network)) if guidance != 1 else None

    @torch.inference_mode()
    def draw(self, labels: np.ndarray, identities: Sequence[Identity]) -> np.ndarray:
        """Draw an image for each map.

        Args:
            labels: Classes, uint8 [N, H, W].
            identities: Of the images; the noise of each comes from a generator of its own.

        Returns:
            HU, int16 [N, H, W].

        Raises:
            InputError: A map has an unknown class, or another size than the network.
        """
        config = self.network.config
        device = next(self.network.parameters()).device
        generators = [torch_generator(*identity) for identity in identities]

        def noise(step: int | None = None) -> Tensor:
            # Drawn on the CPU, so that every kind of device starts from the same numbers.
            shape = (config.image_channels, config.image_size, config.image_size)
            return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(
                device
            )

        maps = one_hot(torch.from_numpy(labels).to(device), config.classes)
        denoiser = guided_denoiser(self.network, self.network.condition(maps), self._null, self.guidance)
        x_T = noise()
        match self.sampler:
            case "ancestral":
                images = sample_ancestral(denoiser, x_T, self.schedule, noise)
            case "ddim":
                images = sample_ddim(denoiser, x_T, self.schedule)
            case "dpmpp":
                images = sample_dpmpp_2m(denoiser, x_T, self.schedule)
        # A network of three channels was trained on three equal ones.
        return unit_to_hu(images.mean(1).cpu().numpy())

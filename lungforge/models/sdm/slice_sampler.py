"""Slices from maps, by a semantic diffusion model."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.ct.window import hu_to_unit
from lungforge.models.base import Identity, SamplingOptions
from lungforge.models.sampling import IdentityNoise, to_hu
from lungforge.models.sdm.diffusion import Denoiser, NoiseSchedule
from lungforge.models.sdm.guidance import guided_denoiser, null_map
from lungforge.models.sdm.inpainting import sample_inpainted
from lungforge.models.sdm.samplers import sample_ancestral, sample_ddim, sample_dpmpp_2m
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot


class DiffusionSliceSampler:
    """Samples with a semantic diffusion model; an ``InpaintingSampler``.

    The steps are spread evenly over those of training; for dpmpp evenly in the logarithm of the
    signal-to-noise ratio, which its order of convergence is stated in.

    Args:
        network: In evaluation mode, on its device.
        options: Sampler, steps and guidance.
    """

    def __init__(self, network: SemanticUNet, options: SamplingOptions) -> None:
        self.network = network
        self.sampler, self.steps, self.guidance = options.sampler, options.steps, options.guidance
        spacing = f"snr{self.steps}" if self.sampler == "dpmpp" else str(self.steps)
        self.schedule = NoiseSchedule.linear().respace(spacing)
        with torch.inference_mode():
            self._null = network.condition(null_map(network)) if self.guidance != 1 else None

    @torch.inference_mode()
    def sample(self, labels: NDArray[np.uint8], identities: Sequence[Identity]) -> NDArray[np.int16]:
        """Sample an image for each map; see ``SliceSampler``."""
        denoiser, noise = self._begin(labels, identities)
        x_T = noise()
        match self.sampler:
            case "ancestral":
                images = sample_ancestral(denoiser, x_T, self.schedule, noise)
            case "ddim":
                images = sample_ddim(denoiser, x_T, self.schedule)
            case "dpmpp":
                images = sample_dpmpp_2m(denoiser, x_T, self.schedule)
        return to_hu(images)

    @torch.inference_mode()
    def inpaint(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        real: NDArray[np.int16],
        mask: NDArray[np.bool_],
    ) -> NDArray[np.int16]:
        """Sample a part of each image, and keep the rest of it real; see ``InpaintingSampler``.

        Ancestral sampling with resampling; its steps are even in the logarithm of the signal-to-noise ratio.
        """
        denoiser, noise = self._begin(labels, identities)
        x_T = noise()
        known = torch.from_numpy(hu_to_unit(real))[:, None].to(x_T.device).expand(x_T.shape)
        images = sample_inpainted(
            denoiser,
            x_T,
            NoiseSchedule.linear().respace(f"snr{self.steps}"),
            noise,
            known,
            torch.from_numpy(mask)[:, None].to(x_T.device),
        )
        return np.where(mask, to_hu(images), real)

    def _begin(
        self, labels: NDArray[np.uint8], identities: Sequence[Identity]
    ) -> tuple[Denoiser, IdentityNoise]:
        config = self.network.config
        device = next(self.network.parameters()).device
        maps = one_hot(torch.from_numpy(labels).to(device), config.classes)
        denoiser = guided_denoiser(self.network, self.network.condition(maps), self._null, self.guidance)
        shape = (config.image_channels, config.image_size, config.image_size)
        return denoiser, IdentityNoise(identities, shape, device)

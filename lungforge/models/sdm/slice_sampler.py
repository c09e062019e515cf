"""Slices from maps, by a semantic diffusion model."""

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungforge.ct.window import hu_to_unit
from lungforge.models.base import Identity, SamplingOptions
from lungforge.models.device_choices import autocast, sampling_precision, sent
from lungforge.models.sampling import IdentityNoise, to_hu
from lungforge.models.sdm.config import sampling_of
from lungforge.models.sdm.diffusion import Denoiser, Estimate, NoiseSchedule
from lungforge.models.sdm.guidance import Guidance, guided_denoiser, null_map
from lungforge.models.sdm.inpainting import sample_inpainted
from lungforge.models.sdm.objectives import objective_of
from lungforge.models.sdm.samplers import sample_ancestral, sample_ddim, sample_dpmpp_2m, sample_heun
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot_or_hidden, require_classes


class DiffusionSliceSampler:
    """Samples with a semantic diffusion model; an ``InpaintingSampler``.

    What the options leave open is decided by the model's objective.

    Args:
        network: In evaluation mode, on its device.
        options: Sampler, steps and guidance.

    Raises:
        InputError: The sampler takes an odd count of evaluations.
    """

    def __init__(self, network: SemanticUNet, options: SamplingOptions) -> None:
        self.network = network
        self.objective = objective_of(network.config)
        chosen = sampling_of(network.config, options)
        assert chosen.sampler is not None, "nothing is left open"
        assert chosen.steps is not None, "nothing is left open"
        assert chosen.guidance is not None, "nothing is left open"
        self.sampler, self.steps = chosen.sampler, chosen.steps
        self._guidance = Guidance(chosen.guidance, *(chosen.guidance_interval or ()))
        evaluated = (self.steps + 1) // 2 if self.sampler == "heun" else self.steps
        self.schedule = self.objective.schedule(evaluated, even_in_noise=self.sampler in ("dpmpp", "heun"))
        self._device = next(network.parameters()).device
        with torch.inference_mode(), self._precision():
            self._null = network.condition(null_map(network)) if chosen.guidance != 1 else None

    @property
    def guidance(self) -> float:
        """See ``SliceSampler``."""
        return self._guidance.scale

    @property
    def guidance_interval(self) -> tuple[float, float]:
        """See ``SliceSampler``."""
        return self._guidance.low, self._guidance.high

    @torch.inference_mode()
    def sample(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        places: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int16]:
        """Sample an image for each map; see ``SliceSampler``."""
        denoiser, noise = self.prepare(labels, identities, places, self.schedule)
        x_T = noise()
        match self.sampler:
            case "ancestral":
                images = sample_ancestral(denoiser, x_T, self.schedule, noise)
            case "ddim":
                images = sample_ddim(denoiser, x_T, self.schedule)
            case "dpmpp":
                images = sample_dpmpp_2m(denoiser, x_T, self.schedule)
            case "heun":
                images = sample_heun(denoiser, x_T, self.schedule)
        return to_hu(images)

    @torch.inference_mode()
    def inpaint(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        real: NDArray[np.int16],
        mask: NDArray[np.bool_],
        places: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int16]:
        """Sample a part of each image, and keep the rest of it real; see ``InpaintingSampler``.

        Ancestral sampling with resampling; its steps are spread over the levels of noise.
        """
        schedule = self.objective.schedule(self.steps, even_in_noise=True)
        denoiser, noise = self.prepare(labels, identities, places, schedule)
        x_T = noise()
        known = torch.from_numpy(hu_to_unit(real))[:, None].to(x_T.device).expand(x_T.shape)
        inside = torch.from_numpy(mask)[:, None].to(x_T.device)
        images = sample_inpainted(denoiser, x_T, schedule, noise, known, inside)
        return np.where(mask, to_hu(images), real)

    def prepare(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        places: NDArray[np.float32] | None,
        schedule: NoiseSchedule,
    ) -> tuple[Denoiser, IdentityNoise]:
        """What the steps of sampling need: the denoiser of a batch of maps, and its noise.

        Args:
            labels: As for ``sample``.
            identities: As for ``sample``.
            places: As for ``sample``.
            schedule: The steps to take.
        """
        config, device = self.network.config, self._device
        if labels.size:
            require_classes(int(labels.min()), int(labels.max()), config.classes)
        maps = one_hot_or_hidden(sent(torch.from_numpy(labels), device), config.classes)
        given = None if places is None else sent(torch.from_numpy(places), device)
        with self._precision():
            conditioning = self.network.condition(maps, given)
            denoiser = guided_denoiser(
                self.network, self.objective, schedule, conditioning, self._null, self._guidance
            )

        def denoise(x_t: Tensor, index: int) -> Estimate:
            with self._precision():
                return denoiser(x_t, index)

        shape = (config.image_channels, config.image_size, config.image_size)
        return denoise, IdentityNoise(identities, shape, device)

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        return autocast(self._device, sampling_precision(self._device))

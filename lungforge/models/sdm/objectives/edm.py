"""Denoising with the preconditioning of EDM: the objective of new models (Karras et al., arXiv 2206.00364).

The network sees images of unit variance at every level of noise and predicts a target of unit variance, so no
error is magnified on the way to the image: brightness is learnt as readily as texture. For that, the mean and
the spread of the training pixels are measured; the paper subtracts no mean, but CT is mostly dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from lungforge.models.sdm.config import REFERENCE_SIDE
from lungforge.models.sdm.diffusion import (
    Estimate,
    Network,
    NoiseSchedule,
    at_least_float32,
    clip_image,
    steps_like,
)
from lungforge.models.sdm.objectives.base import ImageError

#: Of ln σ in training, for images of 64 px: normal, with this mean and spread.
LOG_SIGMA_MEAN: Final = -0.4
LOG_SIGMA_SPREAD: Final = 1.4
#: The largest and the smallest σ of sampling, for images of 64 px.
SIGMA_MAX: Final = 80.0
SIGMA_MIN: Final = 0.005
#: How much denser the steps of sampling are where there is little noise.
RHO: Final = 7.0
#: Times given to the network, as many as there are timesteps in noise prediction: its embedding is made for.
_TIMES = 999.0


@dataclass(frozen=True)
class EDM:
    """An ``Objective``.

    Averaged over its pixels, the noise of an image is less by a factor of the side: the larger the image, the
    more noise it takes to hide its brightness and its coarse structure. So the noise of training and the
    largest one of sampling grow with the side (Hoogeboom et al., arXiv 2301.11093), and the noise of an
    image's mean at the start of sampling has the standard deviation 1.25 at every side.

    Attributes:
        side: Of the images, in px.
        mean: Of the training pixels, in [-1, 1].
        spread: Their standard deviation.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss",)

    side: int
    mean: float
    spread: float

    @property
    def sigma_max(self) -> float:
        """The standard deviation of the noise that sampling starts from."""
        return SIGMA_MAX * self.side / REFERENCE_SIDE

    @property
    def log_sigma_mean(self) -> float:
        """The mean of ln σ in training."""
        return LOG_SIGMA_MEAN + math.log(self.side / REFERENCE_SIDE)

    def draw_time(self, generator: torch.Generator) -> float:
        """See ``Objective``: ln σ."""
        return self.log_sigma_mean + LOG_SIGMA_SPREAD * float(torch.randn(1, generator=generator))

    def loss(self, network: Network, x_0: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """See ``Objective``: the squared error of the output, 1 for a network that gives zeros."""
        sigma = _beside(times.exp(), x_0)
        noisy = x_0 - self.mean + sigma * noise
        c_skip, c_out = self.skip_and_out(sigma)
        target = (x_0 - self.mean - c_skip * noisy) / c_out
        error = self._output(network, noisy, sigma) - target
        return ((error**2).flatten(1).mean(1),)

    def image_error(self, losses: Sequence[Tensor], times: Tensor) -> ImageError:
        """See ``Objective``: the output's error, and c_out magnifies it."""
        sigma = times.exp()
        _, c_out = self.skip_and_out(sigma)
        return ImageError(sigma, c_out**2 * losses[0])

    def schedule(self, steps: int, *, even_in_noise: bool) -> NoiseSchedule:
        """See ``Objective``: equation 5 of the paper; the steps suit every sampler."""
        if steps == 1:
            return NoiseSchedule.from_sigmas(torch.tensor([self.sigma_max]))
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        low, high = SIGMA_MIN ** (1 / RHO), self.sigma_max ** (1 / RHO)
        return NoiseSchedule.from_sigmas((low + ramp * (high - low)) ** RHO)

    def estimate(self, network: Network, schedule: NoiseSchedule, x_t: Tensor, index: int) -> Estimate:
        """See ``Objective``."""
        steps, schedule = steps_like(x_t, index), schedule.on(x_t.device)
        sigma = schedule.at(schedule.sigmas, steps, x_t)
        noisy = x_t / schedule.at(schedule.alphas_cumprod.sqrt(), steps, x_t) - self.mean
        c_skip, c_out = self.skip_and_out(sigma)
        x_0 = self.mean + c_skip * noisy + c_out * self._output(network, noisy, sigma)
        return Estimate(clip_image(x_0))

    def skip_and_out(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out of the paper's table 1."""
        total = sigma**2 + self.spread**2
        return self.spread**2 / total, sigma * self.spread / total.sqrt()

    def _output(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The network's output for noisy images less the mean, without the channels of the variance."""
        scaled = noisy / (sigma**2 + self.spread**2).sqrt()
        output = network(scaled, self._times(sigma))
        return output[:, : noisy.shape[1]].to(at_least_float32(output))

    def _times(self, sigma: Tensor) -> Tensor:
        """Ln σ as a time from 0 to 999, [N]."""
        lowest, highest = math.log(SIGMA_MIN), math.log(self.sigma_max)
        return _TIMES * (sigma.flatten().log() - lowest) / (highest - lowest)


def _beside(values: Tensor, images: Tensor) -> Tensor:
    """Values [N] as [N, 1, 1, 1]."""
    return values.to(images.dtype).view(-1, *[1] * (images.ndim - 1))

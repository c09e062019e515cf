"""Noise prediction with learned variance: the objective of the published model and of released checkpoints.

Sources: DDPM (Ho et al., arXiv 2006.11239); improved DDPM (Nichol and Dhariwal, arXiv 2102.09672) for the
learned variance and the variational term. The network's output is [noise | variance], its time the timestep.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lungforge.models.sdm.diffusion import (
    Estimate,
    Network,
    NoiseSchedule,
    ReverseStep,
    at_least_float32,
    clip_image,
    q_posterior,
    q_sample,
    reverse_step,
    steps_like,
)
from lungforge.models.sdm.objectives.base import ImageError


class NoisePrediction:
    """An ``Objective``: the squared error of the noise over a linear schedule of 1000 steps."""

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "mse", "vb")

    def __init__(self) -> None:
        self.process = NoiseSchedule.linear()

    def draw_time(self, generator: torch.Generator) -> float:
        """See ``Objective``: a timestep, each as likely as any other."""
        return int(torch.randint(len(self.process), (1,), generator=generator))

    def loss(self, network: Network, x_0: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """See ``Objective``."""
        return training_loss(network, self.process, x_0, times, noise)

    def image_error(self, losses: Sequence[Tensor], times: Tensor) -> ImageError:
        """See ``Objective``: the noise's error, times the σ of the noise."""
        _, mse, _ = losses
        sigma = self.process.on(mse.device).sigmas[times].to(mse.dtype)
        return ImageError(sigma, sigma**2 * mse)

    def schedule(self, steps: int, *, even_in_noise: bool) -> NoiseSchedule:
        """See ``Objective``: some of the steps of training."""
        return self.process.respace(f"snr{steps}" if even_in_noise else str(steps))

    def estimate(self, network: Network, schedule: NoiseSchedule, x_t: Tensor, index: int) -> Estimate:
        """See ``Objective``."""
        output = network(x_t, steps_like(x_t, int(schedule.timesteps[index])))
        return read_output(schedule, output, x_t, steps_like(x_t, index))


def predict_x_0(schedule: NoiseSchedule, x_t: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
    """The image that x_t would come from, were ``noise`` the noise in it."""
    schedule = schedule.on(x_t.device)
    inverse = 1 / schedule.alphas_cumprod
    return (
        schedule.at(inverse.sqrt(), steps, x_t) * x_t - schedule.at((inverse - 1).sqrt(), steps, x_t) * noise
    )


def read_output(
    schedule: NoiseSchedule, output: Tensor, x_t: Tensor, steps: Tensor, *, clip: bool = True
) -> Estimate:
    """Read the network's output as an estimate of the image.

    Args:
        schedule: The process, respaced or not.
        output: Network output [N, 2C, H, W].
        x_t: Noisy images [N, C, H, W].
        steps: Steps [N] of this schedule.
        clip: Whether the image is clipped to [-1, 1].
    """
    noise, variance = output.to(at_least_float32(output)).chunk(2, dim=1)
    x_0 = predict_x_0(schedule, x_t, steps, noise)
    return Estimate(clip_image(x_0) if clip else x_0, variance)


def p_mean_variance(
    schedule: NoiseSchedule, output: Tensor, x_t: Tensor, steps: Tensor, *, clip: bool = True
) -> ReverseStep:
    """The step of the reverse process that the network's output means; arguments as for ``read_output``."""
    return reverse_step(schedule, read_output(schedule, output, x_t, steps, clip=clip), x_t, steps)


class Loss(NamedTuple):
    """The training loss of each image [N]: ``total = mse + vb``."""

    total: Tensor
    mse: Tensor
    vb: Tensor


def training_loss(
    network: Network, schedule: NoiseSchedule, x_0: Tensor, steps: Tensor, noise: Tensor
) -> Loss:
    """Squared error of the noise plus the variational term that teaches the variance.

    The variational term, in bits a pixel, is a Kullback-Leibler divergence, and at the first step the
    likelihood of the image; its gradient is stopped through the predicted noise.

    Args:
        network: With its conditioning.
        schedule: The process.
        x_0: Images [N, C, H, W] in [-1, 1].
        steps: Steps [N] of the schedule.
        noise: Standard normal, like ``x_0``.
    """
    x_t = q_sample(schedule, x_0, steps, noise)
    output = network(x_t, schedule.on(steps.device).timesteps[steps]).float()
    predicted, spread = output.chunk(2, dim=1)
    mse = _mean_of_image((noise - predicted) ** 2)
    frozen = torch.cat([predicted.detach(), spread], dim=1)
    vb = variational_bound(schedule, frozen, x_0, x_t, steps)
    return Loss(mse + vb, mse, vb)


def variational_bound(
    schedule: NoiseSchedule, output: Tensor, x_0: Tensor, x_t: Tensor, steps: Tensor
) -> Tensor:
    """The term of the variational bound that belongs to each image's step, in bits a pixel, [N]."""
    true_mean, true_log_variance = q_posterior(schedule, x_0, x_t, steps)
    step = p_mean_variance(schedule, output, x_t, steps, clip=False)
    divergence = 0.5 * (
        step.log_variance
        - true_log_variance
        - 1
        + (true_log_variance - step.log_variance).exp()
        + (true_mean - step.mean) ** 2 * (-step.log_variance).exp()
    )
    likelihood = discretised_log_likelihood(x_0, step.mean, 0.5 * step.log_variance)
    first = (steps == 0).to(x_t.device)
    return torch.where(first, -_mean_of_image(likelihood), _mean_of_image(divergence)) / math.log(2)


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of 8-bit grey values under a Gaussian, in nats; the outer bins reach to infinity.

    The normal distribution function is the tanh approximation that the published numbers were made with.
    """
    inverse = (-log_scale).exp()
    upper = _normal_cdf((x - mean + 1 / 255) * inverse)
    lower = _normal_cdf((x - mean - 1 / 255) * inverse)
    smallest = 1e-12
    inside = (upper - lower).clamp(min=smallest).log()
    left = upper.clamp(min=smallest).log()
    right = (1 - lower).clamp(min=smallest).log()
    return torch.where(x < -0.999, left, torch.where(x > 0.999, right, inside))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _mean_of_image(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)

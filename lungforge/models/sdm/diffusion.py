"""The diffusion process: schedules, the forward process, its posterior, and a step of the reverse process.

Everything is stated for the variance-preserving process, x_t = √ᾱ x_0 + √(1-ᾱ) noise (DDPM, Ho et al.,
arXiv 2006.11239). Dividing by √ᾱ gives the variance-exploding one of EDM, whose noise has the standard
deviation σ = √(1/ᾱ - 1). Images are float tensors [N, C, H, W] in [-1, 1]; timesteps are int64 tensors [N].
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lungforge.errors import InputError

#: Network output [N, 2C, H, W] for noisy images [N, C, H, W] and times [N], as an objective scales them.
Network = Callable[[Tensor, Tensor], Tensor]


class Estimate(NamedTuple):
    """What a denoiser says of noisy images.

    Attributes:
        x_0: The images [N, C, H, W] that they come from, in [-1, 1].
        variance: Where the log variance of a reverse step lies between its two bounds, from -1 to 1; None
            where the model does not say, which is the lower bound, the posterior's.
    """

    x_0: Tensor
    variance: Tensor | None = None


#: Estimate for noisy images [N, C, H, W] at a step of a schedule.
Denoiser = Callable[[Tensor, int], Estimate]


class NoiseSchedule:
    """How much noise each step holds, and everything that follows from it.

    All tables are float64 tensors [steps] on the CPU; ``on`` gives them elsewhere.

    Attributes:
        betas: Variance that each step adds.
        timesteps: int64, the step of the full process that each step stands for: its input.
        alphas_cumprod: ᾱ, the share of the image's variance that is left after each step.
        alphas_cumprod_prev: The same, one step earlier; 1 before the first.
        posterior_variance: β̃ of q(x_{t-1} | x_t, x_0).
    """

    def __init__(self, betas: Tensor, timesteps: Tensor | None = None) -> None:
        if betas.ndim != 1 or len(betas) == 0 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise InputError("a schedule needs betas above 0 and at most 1")
        self.betas = betas.double()
        self.timesteps = torch.arange(len(betas)) if timesteps is None else timesteps.long()
        alphas = 1 - self.betas
        self.alphas_cumprod = alphas.cumprod(0)
        self.alphas_cumprod_prev = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        self.posterior_variance = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        # The posterior variance of the first step is 0; its logarithm takes the second step's value.
        clipped = self.posterior_variance.clone()
        clipped[0] = clipped[1] if len(clipped) > 1 else self.betas[0]
        self.posterior_log_variance = clipped.log()
        self.posterior_x_0 = self.betas * self.alphas_cumprod_prev.sqrt() / (1 - self.alphas_cumprod)
        self.posterior_x_t = (1 - self.alphas_cumprod_prev) * alphas.sqrt() / (1 - self.alphas_cumprod)
        self._elsewhere: dict[torch.device, NoiseSchedule] = {}

    def on(self, device: torch.device) -> "NoiseSchedule":
        """The same with its tables on a device, where they are sent once."""
        if device == self.betas.device:
            return self
        if device not in self._elsewhere:
            moved = copy.copy(self)
            for name, value in vars(self).items():
                if isinstance(value, Tensor):
                    setattr(moved, name, value.to(device, non_blocking=True))
            self._elsewhere[device] = moved
        return self._elsewhere[device]

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def sigmas(self) -> Tensor:
        """Standard deviation of the noise at each step, for a signal that is not scaled."""
        return (1 / self.alphas_cumprod - 1).sqrt()

    @classmethod
    def from_sigmas(cls, sigmas: Tensor) -> "NoiseSchedule":
        """The process whose steps have the given standard deviations of noise, ascending, above 0."""
        alphas_cumprod = 1 / (1 + sigmas.double() ** 2)
        before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        return cls(1 - alphas_cumprod / before)

    @classmethod
    def linear(cls, steps: int = 1000) -> "NoiseSchedule":
        """Betas from 1e-4 to 0.02 over 1000 steps; with another count, the same total noise."""
        if steps < 1:
            raise InputError(f"steps is {steps}; give at least 1")
        scale = 1000 / steps
        return cls(torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64).clamp(max=0.999))

    def respace(self, spacing: str) -> "NoiseSchedule":
        """The process that visits only some of the steps, with the same ᾱ at each of those.

        Args:
            spacing: "25" spreads 25 steps evenly, both ends included; "ddim25" takes a fixed stride; "snr25"
                spreads them evenly in the logarithm of the signal-to-noise ratio, which DPM-Solver++ needs:
                on a Gaussian whose score is known, 25 steps of it sample a spread 1 % too wide, "25" 25 %.

        Raises:
            InputError: The spacing is not of this form, or asks for more steps than there are.
        """
        if spacing.startswith("snr"):
            chosen = self._even_in_noise(_count(spacing, "snr", len(self)))
        else:
            chosen = _spaced_steps(spacing, len(self))
        kept = self.alphas_cumprod[chosen]
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
        return NoiseSchedule(1 - kept / before, self.timesteps[chosen])

    def _even_in_noise(self, count: int) -> Tensor:
        ratio = (self.alphas_cumprod / (1 - self.alphas_cumprod)).log()
        wanted = torch.linspace(float(ratio[0]), float(ratio[-1]), count, dtype=torch.float64)
        chosen = (ratio - wanted[:, None]).abs().argmin(1).tolist()
        # The first steps differ the most: where several would be the same one, they move apart.
        for index in range(1, count):
            chosen[index] = max(chosen[index], chosen[index - 1] + 1)
        return torch.tensor([min(step, len(self) - count + index) for index, step in enumerate(chosen)])

    def at(self, table: Tensor, steps: Tensor, like: Tensor) -> Tensor:
        """Values of a table at ``steps`` [N], as [N, 1, 1, 1] beside ``like``, in float32 at least.

        A table of a schedule that is ``on`` the device of ``like`` is not sent there again.
        """
        values = table.to(like.device)[steps.to(like.device)]
        return values.to(at_least_float32(like)).view(-1, *[1] * (like.ndim - 1))


def _count(spacing: str, prefix: str, steps: int) -> int:
    digits = spacing.removeprefix(prefix)
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits) <= steps:
        raise InputError(
            f"spacing is {spacing!r}; give a count from 1 to {steps}, such as 50, ddim50 or snr50"
        )
    return int(digits)


def _spaced_steps(spacing: str, steps: int) -> Tensor:
    """Indices of the steps that a spacing keeps, ascending, int64."""
    strided = spacing.startswith("ddim")
    count = _count(spacing, "ddim", steps)
    if strided:
        for stride in range(1, steps + 1):
            if len(range(0, steps, stride)) == count:
                return torch.arange(0, steps, stride)
        raise InputError(
            f"spacing is {spacing!r}; no fixed stride takes {count} of {steps} steps, use {count}"
        )
    stride_float = (steps - 1) / (count - 1) if count > 1 else 1.0
    # Adding up the stride, as the original program did, decides the ties of the rounding.
    positions, position = [], 0.0
    for _ in range(count):
        positions.append(round(position))
        position += stride_float
    return torch.tensor(positions)


def q_sample(schedule: NoiseSchedule, x_0: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
    """Draw x_t from q(x_t | x_0) with the given standard normal noise."""
    schedule = schedule.on(x_0.device)
    signal = schedule.at(schedule.alphas_cumprod.sqrt(), steps, x_0)
    spread = schedule.at((1 - schedule.alphas_cumprod).sqrt(), steps, x_0)
    return signal * x_0 + spread * noise


def q_posterior(schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of q(x_{t-1} | x_t, x_0); the log variance is clipped at the first step."""
    schedule = schedule.on(x_t.device)
    mean = (
        schedule.at(schedule.posterior_x_0, steps, x_t) * x_0
        + schedule.at(schedule.posterior_x_t, steps, x_t) * x_t
    )
    return mean, schedule.at(schedule.posterior_log_variance, steps, x_t)


def predict_noise(schedule: NoiseSchedule, x_t: Tensor, steps: Tensor, x_0: Tensor) -> Tensor:
    """The noise that lies between ``x_0`` and x_t."""
    schedule = schedule.on(x_t.device)
    inverse = 1 / schedule.alphas_cumprod
    return (schedule.at(inverse.sqrt(), steps, x_t) * x_t - x_0) / schedule.at(
        (inverse - 1).sqrt(), steps, x_t
    )


class ReverseStep(NamedTuple):
    """The Gaussian p(x_{t-1} | x_t)."""

    mean: Tensor
    log_variance: Tensor


def reverse_step(schedule: NoiseSchedule, estimate: Estimate, x_t: Tensor, steps: Tensor) -> ReverseStep:
    """The step of the reverse process that an estimate means.

    Args:
        schedule: The process, respaced or not.
        estimate: Of ``x_t``.
        x_t: Noisy images [N, C, H, W].
        steps: Steps [N] of this schedule.
    """
    schedule = schedule.on(x_t.device)
    mean, smallest = q_posterior(schedule, estimate.x_0, x_t, steps)
    if estimate.variance is None:
        return ReverseStep(mean, smallest)
    # v in [-1, 1] interpolates, in log space, between the two bounds of the variance (arXiv 2102.09672).
    largest = schedule.at(schedule.betas.log(), steps, x_t)
    share = (estimate.variance + 1) / 2
    return ReverseStep(mean, share * largest + (1 - share) * smallest)


def clip_image(x_0: Tensor) -> Tensor:
    """The image in [-1, 1]; what overflowed is NaN, so that it does not pass for white or black."""
    return x_0.clamp(-1, 1).where(x_0.isfinite(), torch.nan)


def steps_like(x: Tensor, index: int) -> Tensor:
    """The same step for every image of a batch, int64 [N]."""
    return torch.full((len(x),), index, device=x.device)


def at_least_float32(values: Tensor) -> torch.dtype:
    """The type to compute in beside the given values."""
    return torch.promote_types(values.dtype, torch.float32)

"""Samplers as pure functions: noise in, images out.

Each takes a denoiser, the starting noise x_T [N, C, H, W] and the schedule of the steps to take. Fresh noise
comes from the caller, ``noise(step)``, so that each image can have a generator of its own and not depend on
the batch that it is sampled in.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lungforge.models.sdm.diffusion import (
    Denoiser,
    Estimate,
    NoiseSchedule,
    predict_noise,
    reverse_step,
    steps_like,
)

#: Standard normal noise like x_T for a step of the schedule.
Noise = Callable[[int], Tensor]


def sample_ancestral(denoiser: Denoiser, x_T: Tensor, schedule: NoiseSchedule, noise: Noise) -> Tensor:
    """Walk the learned reverse process, with its variance (DDPM, arXiv 2006.11239).

    Args:
        denoiser: The network with its conditioning.
        x_T: Standard normal noise [N, C, H, W].
        schedule: The steps to take.
        noise: Called once for every step but the last, steps descending from ``len(schedule) - 1`` to 1.

    Returns:
        Images [N, C, H, W].
    """
    x = x_T
    for index in reversed(range(len(schedule))):
        step = reverse_step(schedule, denoiser(x, index), x, steps_like(x, index))
        x = step.mean
        if index > 0:
            x = x + (0.5 * step.log_variance).exp() * noise(index)
    return x


def sample_ddim(
    denoiser: Denoiser, x_T: Tensor, schedule: NoiseSchedule, noise: Noise | None = None, *, eta: float = 0.0
) -> Tensor:
    """Denoising diffusion implicit sampling (Song et al., arXiv 2010.02502).

    Args:
        denoiser: The network with its conditioning.
        x_T: Standard normal noise [N, C, H, W].
        schedule: The steps to take.
        noise: As for ``sample_ancestral``; needed only when ``eta`` is above 0.
        eta: 0 takes no noise after x_T; 1 has the variance of the ancestral process.
    """
    assert eta == 0 or noise is not None, "eta above 0 needs noise"
    x = x_T
    for index in reversed(range(len(schedule))):
        fresh = noise(index) if eta > 0 and index > 0 and noise is not None else None
        x = ddim_step(schedule, denoiser(x, index), x, steps_like(x, index), fresh, eta=eta)
    return x


def ddim_step(
    schedule: NoiseSchedule,
    estimate: Estimate,
    x_t: Tensor,
    steps: Tensor,
    noise: Tensor | None,
    *,
    eta: float = 0.0,
) -> Tensor:
    """One step of DDIM from x_t, equation 12 of arXiv 2010.02502; without noise, only the mean."""
    schedule = schedule.on(x_t.device)
    direction = predict_noise(schedule, x_t, steps, estimate.x_0)
    alpha_bar = schedule.at(schedule.alphas_cumprod, steps, x_t)
    alpha_bar_prev = schedule.at(schedule.alphas_cumprod_prev, steps, x_t)
    sigma = eta * ((1 - alpha_bar_prev) / (1 - alpha_bar)).sqrt() * (1 - alpha_bar / alpha_bar_prev).sqrt()
    mean = (
        alpha_bar_prev.sqrt() * estimate.x_0 + (1 - alpha_bar_prev - sigma**2).clamp(min=0).sqrt() * direction
    )
    return mean if noise is None else mean + sigma * noise


def sample_dpmpp_2m(denoiser: Denoiser, x_T: Tensor, schedule: NoiseSchedule) -> Tensor:
    """DPM-Solver++(2M): second order, two evaluations in memory (Lu et al., arXiv 2211.01095, algorithm 2).

    Args:
        denoiser: The network with its conditioning.
        x_T: Standard normal noise [N, C, H, W].
        schedule: The steps to take, spread over the levels of noise. Steps that are even in time make the
            last one so long that the extrapolation overshoots.

    Returns:
        Images [N, C, H, W]; the last step, from the least noisy time to 0, is of first order.
    """
    # In float64 on the CPU; λ = log(α/σ) is half the log signal-to-noise ratio.
    alpha, sigma = schedule.alphas_cumprod.sqrt(), (1 - schedule.alphas_cumprod).sqrt()
    lambdas = (alpha / sigma).log()
    x, previous = x_T, None
    for index in reversed(range(len(schedule))):
        x_0 = denoiser(x, index).x_0
        if index == 0:
            return x_0
        step = lambdas[index - 1] - lambdas[index]
        target = x_0
        if previous is not None:
            ratio = float((lambdas[index] - lambdas[index + 1]) / step)
            target = x_0 + (x_0 - previous) / (2 * ratio)
        x = float(sigma[index - 1] / sigma[index]) * x - float(alpha[index - 1] * torch.expm1(-step)) * target
        previous = x_0
    return x


def sample_heun(denoiser: Denoiser, x_T: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Heun's method on the probability-flow equation (Karras et al., arXiv 2206.00364, algorithm 1).

    The reference for the others: of second order at any spacing of the steps, at two evaluations a step.

    Args:
        denoiser: The network with its conditioning.
        x_T: Standard normal noise [N, C, H, W].
        schedule: The steps to take, spread over the levels of noise.

    Returns:
        Images [N, C, H, W]; the last step, to no noise at all, is of first order.
    """
    sigmas, alphas = schedule.sigmas.tolist(), schedule.alphas_cumprod.sqrt().tolist()
    x = x_T / alphas[-1]  # with the signal unscaled, so that dx/dσ = (x - x_0) / σ
    for index in reversed(range(len(schedule))):
        slope = (x - denoiser(x * alphas[index], index).x_0) / sigmas[index]
        if index == 0:
            return x - sigmas[0] * slope
        step = sigmas[index - 1] - sigmas[index]
        ahead = x + step * slope
        slope_ahead = (ahead - denoiser(ahead * alphas[index - 1], index - 1).x_0) / sigmas[index - 1]
        x = x + step * (slope + slope_ahead) / 2
    return x

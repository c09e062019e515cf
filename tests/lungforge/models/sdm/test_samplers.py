import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lungforge.models.sdm.diffusion import Denoiser, Estimate, NoiseSchedule, q_posterior
from lungforge.models.sdm.samplers import (
    ddim_step,
    sample_ancestral,
    sample_ddim,
    sample_dpmpp_2m,
    sample_heun,
)

#: Images are single pixels from this Gaussian, whose score is known; it hardly reaches the clipping.
MEAN, SPREAD = 0.1, 0.2


def known_denoiser(schedule: NoiseSchedule) -> Denoiser:
    """The best possible denoiser for the Gaussian: its expected image, and the exact variance of a step."""

    def denoise(x: Tensor, index: int) -> Estimate:
        left = float(schedule.alphas_cumprod[index])
        total = left * SPREAD**2 + 1 - left
        x_0 = MEAN + math.sqrt(left) * SPREAD**2 * (x.double() - math.sqrt(left) * MEAN) / total
        variance_of_x_0 = SPREAD**2 * (1 - left) / total
        variance = schedule.posterior_variance[index] + schedule.posterior_x_0[index] ** 2 * variance_of_x_0
        smallest, largest = schedule.posterior_log_variance[index], schedule.betas[index].log()
        v = 2 * (variance.log() - smallest) / (largest - smallest) - 1 if index else torch.tensor(0.0)
        return Estimate(x_0.to(x.dtype).clamp(-1, 1), torch.full_like(x, float(v)))

    return denoise


def pixels(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spacing", ["1000", "100"])
def test_ancestral_sampling_gives_the_known_gaussian(spacing):
    schedule, count = NoiseSchedule.linear().respace(spacing), 20_000
    images = sample_ancestral(
        known_denoiser(schedule), pixels(count, 0), schedule, lambda step: pixels(count, 1 + step)
    )
    assert float(images.mean()) == pytest.approx(MEAN, abs=5 * SPREAD / math.sqrt(count))
    assert float(images.std()) == pytest.approx(SPREAD, rel=0.03)


@pytest.mark.parametrize(("eta", "spacing"), [(0.0, "250"), (0.5, "250"), (1.0, "1000")])
def test_ddim_gives_the_known_gaussian(eta, spacing):
    schedule, count = NoiseSchedule.linear().respace(spacing), 10_000
    images = sample_ddim(
        known_denoiser(schedule), pixels(count, 0), schedule, lambda step: pixels(count, 1 + step), eta=eta
    )
    assert float(images.mean()) == pytest.approx(MEAN, abs=5 * SPREAD / math.sqrt(count))
    assert float(images.std()) == pytest.approx(SPREAD, rel=0.05)


def test_ancestral_noise_is_asked_for_once_a_step_and_not_at_the_last():
    schedule, asked = NoiseSchedule.linear().respace("5"), []
    sample_ancestral(
        known_denoiser(schedule), pixels(2, 0), schedule, lambda step: asked.append(step) or pixels(2, step)
    )
    assert asked == [4, 3, 2, 1]


def test_ddim_with_eta_1_is_the_posterior_of_its_image():
    schedule = NoiseSchedule.linear()
    x_t, steps = pixels(4, 0), torch.tensor([1, 100, 500, 999])
    estimate = Estimate(pixels(4, 1).clamp(-1, 1))
    # The image that the step points at, from the step without anything else: sigma is all of the spread.
    mean = ddim_step(schedule, estimate, x_t, steps, None, eta=1.0)
    spread = ddim_step(schedule, estimate, x_t, steps, torch.ones(4, 1, 1, 1), eta=1.0) - mean
    expected, _ = q_posterior(schedule, estimate.x_0, x_t, steps)
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        spread.flatten().double() ** 2, schedule.posterior_variance[steps], rtol=1e-3, atol=0
    )


def even_schedule(steps: int) -> NoiseSchedule:
    """Steps that are even in the log signal-to-noise ratio, as orders of convergence are stated."""
    left = torch.sigmoid(2 * torch.linspace(2.5, -3.0, steps + 1, dtype=torch.float64))
    return NoiseSchedule(1 - left / torch.cat([torch.ones(1, dtype=torch.float64), left[:-1]]))


def exact_images(schedule: NoiseSchedule, x_T: Tensor) -> Tensor:
    """Where the probability flow takes x_T: to the least noisy time, then to the image expected there."""
    first, last = float(schedule.alphas_cumprod[0]), float(schedule.alphas_cumprod[-1])
    spreads = [math.sqrt(left * SPREAD**2 + 1 - left) for left in (first, last)]
    deviation = (x_T.double() - math.sqrt(last) * MEAN) / spreads[1]
    return MEAN + math.sqrt(first) * SPREAD**2 / spreads[0] * deviation


def order(sampler: Callable[..., Tensor]) -> float:
    """Order of convergence, from the errors with 128 and with 512 steps."""
    x_T = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    errors = []
    for steps in (128, 512):
        schedule = even_schedule(steps)
        images = sampler(known_denoiser(schedule), x_T, schedule)
        errors.append(float((images - exact_images(schedule, x_T)).abs().max()))
    assert errors[1] < 0.01
    return math.log2(errors[0] / errors[1]) / 2


def test_dpm_solver_converges_with_order_2_and_ddim_with_order_1():
    assert order(sample_dpmpp_2m) == pytest.approx(2, abs=0.2)
    assert order(sample_heun) == pytest.approx(2, abs=0.2)
    assert order(sample_ddim) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("steps", [10, 25])
def test_dpm_solver_with_few_steps_gives_the_known_gaussian(steps):
    schedule = NoiseSchedule.linear().respace(f"snr{steps}")
    images = sample_dpmpp_2m(known_denoiser(schedule), pixels(20_000, 0), schedule)
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(images.std()) == pytest.approx(SPREAD, rel=0.04)


def test_a_single_step_is_the_predicted_image():
    schedule = NoiseSchedule.linear().respace("1")
    x_T = pixels(3, 0)
    for sampler in (sample_dpmpp_2m, sample_ddim, sample_heun):
        assert torch.isfinite(sampler(known_denoiser(schedule), x_T, schedule)).all()

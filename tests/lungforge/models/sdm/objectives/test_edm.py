"""The preconditioning of EDM, against what is known of Gaussians."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lungforge.models.sdm.diffusion import NoiseSchedule
from lungforge.models.sdm.objectives.edm import EDM
from lungforge.models.sdm.samplers import sample_ancestral, sample_dpmpp_2m, sample_heun

MEAN, SPREAD, COUNT = -0.38, 0.2, 20_000


def zeros(x: Tensor, times: Tensor) -> Tensor:
    return torch.zeros(len(x), 2, *x.shape[2:])


def pixels(count: int = COUNT, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=20)
@given(
    log_sigma=st.floats(-5, 4),
    mean=st.floats(-0.9, 0.9),
    spread=st.floats(0.05, 1),
    side=st.sampled_from([32, 256]),
)
def test_input_and_target_have_unit_variance_at_every_level_of_noise(log_sigma, mean, spread, side):
    seen = []

    def network(x: Tensor, times: Tensor) -> Tensor:
        seen.append(x)
        return zeros(x, times)

    x_0 = mean + spread * pixels()
    (loss,) = EDM(side, mean, spread).loss(network, x_0, torch.full((COUNT,), log_sigma), pixels(seed=1))
    tolerance = 5 * math.sqrt(2 / COUNT)
    assert float(seen[0].var()) == pytest.approx(1, abs=tolerance)
    assert float(seen[0].mean()) == pytest.approx(0, abs=tolerance)
    # The error of zeros is the target's square.
    assert float(loss.mean()) == pytest.approx(1, abs=tolerance)


def test_zeros_are_the_best_network_for_a_gaussian_and_give_its_expected_image():
    objective = EDM(64, MEAN, SPREAD)
    schedule = objective.schedule(12, even_in_noise=True)
    x_t = pixels(100)
    for index in range(len(schedule)):
        sigma = float(schedule.sigmas[index])
        noisy = x_t * math.sqrt(1 + sigma**2)
        expected = MEAN + SPREAD**2 / (SPREAD**2 + sigma**2) * (noisy - MEAN)
        estimate = objective.estimate(zeros, schedule, x_t, index)
        torch.testing.assert_close(estimate.x_0, expected.clamp(-1, 1), rtol=1e-4, atol=1e-5)
        assert estimate.variance is None


@pytest.mark.parametrize("sampler", [sample_dpmpp_2m, sample_heun])
def test_samplers_give_the_gaussian_of_which_zeros_are_the_denoiser(sampler):
    objective = EDM(64, MEAN, SPREAD)
    schedule = objective.schedule(40, even_in_noise=True)
    images = sampler(lambda x, index: objective.estimate(zeros, schedule, x, index), pixels(), schedule)
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(images.std()) == pytest.approx(SPREAD, rel=0.03)


def test_ancestral_sampling_uses_the_variance_of_the_posterior():
    objective = EDM(64, MEAN, SPREAD)
    schedule = objective.schedule(400, even_in_noise=False)
    images = sample_ancestral(
        lambda x, index: objective.estimate(zeros, schedule, x, index),
        pixels(),
        schedule,
        lambda step: pixels(seed=1 + step),
    )
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(images.std()) == pytest.approx(SPREAD, rel=0.03)


def test_the_schedule_is_that_of_the_paper():
    schedule = EDM(64, 0.0, 0.5).schedule(3, even_in_noise=True)
    middle = ((80 ** (1 / 7) + 0.005 ** (1 / 7)) / 2) ** 7
    torch.testing.assert_close(schedule.sigmas.tolist(), [0.005, middle, 80.0], rtol=1e-9, atol=0)
    assert EDM(64, 0.0, 0.5).schedule(1, even_in_noise=True).sigmas.tolist() == pytest.approx([80.0])


@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_the_brightness_of_a_slice_is_hidden_at_the_start_of_sampling_at_every_side(side):
    objective = EDM(side, -0.38, 0.62)
    # The noise of an image's mean; means of slices spread by about 0.1 (in [-1, 1]).
    assert objective.sigma_max / side == pytest.approx(1.25)
    # And training sees that much noise: beyond 3.4 of its standard deviations lies 1 in 3,000.
    above = (math.log(objective.sigma_max) - objective.log_sigma_mean) / 1.4
    assert above == pytest.approx((math.log(80) + 0.4) / 1.4)


def test_times_of_training_follow_the_distribution_and_the_generator():
    objective = EDM(128, 0.0, 0.5)
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor([objective.draw_time(generator) for _ in range(4000)])
    assert float(times.mean()) == pytest.approx(-0.4 + math.log(2), abs=5 * 1.4 / math.sqrt(4000))
    assert float(times.std()) == pytest.approx(1.4, rel=0.05)


def test_the_network_is_given_times_from_0_to_999():
    objective, seen = EDM(64, 0.0, 0.5), []
    schedule = objective.schedule(5, even_in_noise=True)
    for index in range(5):
        objective.estimate(
            lambda x, times: seen.append(float(times[0])) or zeros(x, times), schedule, pixels(2), index
        )
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(0, abs=0.01)
    assert seen[-1] == pytest.approx(999, abs=0.01)


def test_a_schedule_from_sigmas_has_them():
    sigmas = torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)
    torch.testing.assert_close(NoiseSchedule.from_sigmas(sigmas).sigmas, sigmas, rtol=1e-9, atol=0)


def test_the_error_of_the_image_follows_from_the_loss():
    objective, generator = EDM(64, MEAN, 0.6), torch.Generator().manual_seed(0)
    times = torch.tensor([0.8, 0.8, 30.0]).log()
    # The mean image with noise of 1, another without noise, and any image with any network.
    x_0 = torch.full((3, 1, 4, 4), MEAN) + torch.tensor([0, 0.5, 0.2]).view(-1, 1, 1, 1)
    noise = torch.stack(
        [torch.ones(1, 4, 4), torch.zeros(1, 4, 4), torch.randn(1, 4, 4, generator=generator)]
    )
    output = torch.zeros(3, 2, 4, 4)
    output[2] = torch.randn(2, 4, 4, generator=generator)
    losses = objective.loss(lambda x, t: output, x_0, times, noise)
    sigma, squared = objective.image_error(losses, times)
    assert sigma.tolist() == pytest.approx([0.8, 0.8, 30], rel=1e-5)
    # Zeros estimate mean + c_skip (image - mean + noise), and c_skip is .36 / (.64 + .36).
    assert squared[:2].tolist() == pytest.approx([(0.36 * 0.8) ** 2, (0.64 * 0.5) ** 2], rel=1e-5)
    c_skip, c_out = 0.36 / 900.36, 30 * 0.6 / math.sqrt(900.36)
    estimate = MEAN + c_skip * (x_0[2] - MEAN + 30 * noise[2]) + c_out * output[2, :1]
    assert float(squared[2]) == pytest.approx(float(((estimate - x_0[2]) ** 2).mean()), rel=1e-5)

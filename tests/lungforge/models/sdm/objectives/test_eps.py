"""Noise prediction: what its error means for the image."""

import math

import pytest
import torch

from lungforge.models.sdm.diffusion import q_sample
from lungforge.models.sdm.objectives.eps import NoisePrediction, predict_x_0


def test_the_error_of_the_image_follows_from_that_of_the_noise():
    objective, generator = NoisePrediction(), torch.Generator().manual_seed(0)
    steps = torch.tensor([0, 999, 500])
    x_0 = torch.rand(3, 1, 4, 4, generator=generator) * 2 - 1
    noise = torch.randn(3, 1, 4, 4, generator=generator)
    noise[:2] = torch.tensor([2.0, 0.5]).view(-1, 1, 1, 1)
    output = torch.zeros(3, 2, 4, 4)
    output[2] = torch.randn(2, 4, 4, generator=generator)
    losses = objective.loss(lambda x, t: output, x_0, steps, noise)
    sigma, squared = objective.image_error(losses, steps)
    # The first step adds a variance of 1e-4; the last one leaves ᾱ = 4.036e-5 of the image's.
    assert sigma[:2].tolist() == pytest.approx([math.sqrt(1 / 0.9999 - 1), 157.4], rel=1e-3)
    # A network that outputs zeros is off by the noise itself.
    assert squared[0].item() == pytest.approx(2**2 * (1 / 0.9999 - 1), rel=1e-5)
    assert squared[1].item() == pytest.approx(0.5**2 * 157.4**2, rel=1e-3)
    estimate = predict_x_0(
        objective.process, q_sample(objective.process, x_0, steps, noise), steps, output[:, :1]
    )
    assert squared[2].item() == pytest.approx(((estimate - x_0)[2] ** 2).mean().item(), rel=1e-4)

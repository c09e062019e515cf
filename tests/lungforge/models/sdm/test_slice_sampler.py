"""Sampling: each image has its noise, and the result is in Hounsfield units."""

import numpy as np
import pytest
import torch

from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.diffusion import NoiseSchedule
from lungforge.models.sdm.guidance import guided_denoiser
from lungforge.models.sdm.samplers import sample_ancestral
from lungforge.models.sdm.slice_sampler import DiffusionSliceSampler
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.spade import one_hot
from lungforge.randomness import torch_generator

SHAPE = UNetConfig(
    image_size=8,
    base_channels=32,
    channel_multipliers=(1,),
    residual_blocks=1,
    attention_sizes=(),
    head_channels=32,
)


@pytest.fixture
def network() -> SemanticUNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SemanticUNet(SHAPE).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    return network


def _labels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 6, (count, 8, 8), dtype=np.uint8)


def test_an_image_is_what_the_sampler_gives_for_its_noise(network: SemanticUNet) -> None:
    labels = _labels(1)
    options = SamplingOptions(sampler="ancestral", steps=4, guidance=1.5)
    sampled = DiffusionSliceSampler(network, options).sample(labels, [(3, "scan", 7)])
    generator = torch_generator(3, "scan", 7)
    noise = [torch.randn(1, 1, 8, 8, generator=generator) for _ in range(4)]
    conditioning = network.condition(one_hot(torch.from_numpy(labels), 6))
    with torch.inference_mode():
        expected = sample_ancestral(
            guided_denoiser(network, conditioning, guidance=1.5),
            noise[0],
            NoiseSchedule.linear().respace("4"),
            lambda step: noise[4 - step],
        )
    assert sampled.dtype == np.int16
    hu = np.clip(expected[0, 0].numpy(), -1, 1) * 700 - 300
    assert np.abs(sampled[0] - hu).max() <= 1
    assert sampled.std() > 50


def test_images_do_not_depend_on_their_neighbours(network: SemanticUNet) -> None:
    sampler = DiffusionSliceSampler(network, SamplingOptions("ancestral", steps=3, guidance=1.0))
    labels, identities = _labels(3), [(0, "a"), (0, "b"), (0, "c")]
    together = sampler.sample(labels, identities)
    turned = sampler.sample(labels[::-1].copy(), identities[::-1])
    assert np.abs(together.astype(int) - turned[::-1]).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 50


def test_an_unknown_class_is_refused(network: SemanticUNet) -> None:
    labels = np.full((1, 8, 8), 6, np.uint8)
    with pytest.raises(InputError, match="classes 0 to 5"):
        DiffusionSliceSampler(network, SamplingOptions("dpmpp", steps=2, guidance=1.0)).sample(labels, [(0,)])

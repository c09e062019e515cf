"""Sampling: each image has its noise, and the result is in Hounsfield units."""

import dataclasses

import numpy as np
import pytest
import torch

from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.diffusion import NoiseSchedule
from lungforge.models.sdm.guidance import Guidance, guided_denoiser
from lungforge.models.sdm.objectives.eps import NoisePrediction
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
    schedule = NoiseSchedule.linear().respace("4")
    with torch.inference_mode():
        expected = sample_ancestral(
            guided_denoiser(network, NoisePrediction(), schedule, conditioning, guidance=Guidance(scale=1.5)),
            noise[0],
            schedule,
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


EDM = dataclasses.replace(SHAPE, objective="edm", pixel_mean=-0.4, pixel_spread=0.6)


@pytest.mark.parametrize(("objective", "expected"), [("eps", ("ancestral", 50)), ("edm", ("dpmpp", 12))])
def test_what_the_user_leaves_open_follows_from_the_objective(objective: str, expected: tuple) -> None:
    network = SemanticUNet(dataclasses.replace(EDM, objective=objective)).eval()
    sampler = DiffusionSliceSampler(network, SamplingOptions())
    assert (sampler.sampler, sampler.steps) == expected
    assert DiffusionSliceSampler(network, SamplingOptions("ddim", 7, 1.0)).steps == 7
    everywhere = DiffusionSliceSampler(network, SamplingOptions(guidance_interval=(0.0, 9.0)))
    assert everywhere.guidance_interval == (0.0, 9.0)


def test_heun_takes_as_many_evaluations_as_it_says(network: SemanticUNet, monkeypatch) -> None:
    network.config = EDM
    sampler = DiffusionSliceSampler(network, SamplingOptions("heun", steps=7, guidance=1.0))
    calls: list[int] = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda *inputs: calls.append(1) or decode(*inputs))
    sampler.sample(_labels(1), [(0,)])
    assert len(calls) == sampler.steps == 7
    with pytest.raises(InputError, match=r"--steps is 8; heun .* give 7 or 9"):
        DiffusionSliceSampler(network, SamplingOptions("heun", steps=8))


@pytest.mark.parametrize(
    ("interval", "passes"), [((0.0, 1e9), 2), ((5.0, 6.0), 1)], ids=["everywhere", "between the steps"]
)
def test_guidance_acts_within_its_interval_only(network, monkeypatch, interval, passes) -> None:
    network.config = EDM
    calls: list[int] = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda *inputs: calls.append(1) or decode(*inputs))
    # On 8 px, two steps have the noise 10 and 0.005.
    options = SamplingOptions("dpmpp", steps=2, guidance=2.0, guidance_interval=interval)
    guided = DiffusionSliceSampler(network, options).sample(_labels(2), [(0,), (1,)])
    assert len(calls) == 2 * passes
    plain = DiffusionSliceSampler(network, SamplingOptions("dpmpp", 2, 1.0)).sample(_labels(2), [(0,), (1,)])
    assert np.array_equal(guided, plain) == (passes == 1)


@pytest.mark.parametrize("objective", ["eps", "edm"])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun"])
def test_every_sampler_works_under_every_objective(network: SemanticUNet, objective, sampler) -> None:
    network.config = dataclasses.replace(EDM, objective=objective)
    images = DiffusionSliceSampler(network, SamplingOptions(sampler, 5, 1.5)).sample(_labels(1), [(0,)])
    assert images.shape == (1, 8, 8)
    assert images.min() >= -1000
    assert images.max() <= 400
    assert images.std() > 10


def test_inpainting_keeps_what_is_real_under_edm(network: SemanticUNet) -> None:
    network.config = EDM
    real = np.random.default_rng(1).integers(-1000, 400, (1, 8, 8)).astype(np.int16)
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[:, 2:5, 2:5] = True
    sampler = DiffusionSliceSampler(network, SamplingOptions("ancestral", steps=5))
    images = sampler.inpaint(_labels(1), [(0,)], real, mask)
    assert np.array_equal(images[~mask], real[~mask])
    assert not np.array_equal(images[mask], real[mask])

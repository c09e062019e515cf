"""What a GPU does in another way gives what the CPU's way gives: both run here, on the CPU."""

import pytest
import torch

from benchmarks.gpu_steps import chest_labels, network_of, sampler_of
from benchmarks.plain_sdm import plain_guided, plain_unet
from lungforge.models import device_choices
from lungforge.models.base import SamplingOptions
from lungforge.models.device_choices import (
    CPU_KEEP_BYTES,
    READ_EVERY,
    autocast,
    keep_bytes,
    optimiser_options,
    sampling_precision,
    sent,
    steps_between_reads,
)
from lungforge.models.sdm.config import PRESETS
from lungforge.models.sdm.guidance import guided_network, null_map
from tests.lungforge.models.sdm.test_unet import make

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def as_on_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choices, "is_queue", lambda device: True)


def test_the_choices_for_each_device() -> None:
    assert (sampling_precision(CPU), sampling_precision(CUDA)) == ("float32", "bfloat16")
    assert (steps_between_reads(CPU), steps_between_reads(CUDA)) == (1, READ_EVERY)
    assert (optimiser_options(CPU), optimiser_options(CUDA)) == ({}, {"fused": True})
    assert keep_bytes(CPU) == CPU_KEEP_BYTES
    x = torch.zeros(2)
    assert sent(x, CPU) is x
    with autocast(CPU, "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        with autocast(CPU, "float32"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_memory_of_modulations_is_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 15)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    assert keep_bytes(CUDA) == 35


@pytest.mark.usefixtures("as_on_a_queue")
def test_the_network_equals_its_plain_form_in_value_and_gradient() -> None:
    model, x, steps, maps, weights = make()
    weights = {key: value.requires_grad_() for key, value in weights.items()}
    expected = plain_unet(weights, model.config.head_channels, x, steps, maps)
    actual = model(x, steps, maps)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    upstream = torch.randn(x.shape[0], 2, *x.shape[2:], generator=torch.Generator().manual_seed(3))
    expected.backward(upstream)
    actual.backward(upstream)
    for key, value in model.named_parameters():
        torch.testing.assert_close(value.grad, weights[key].grad, rtol=1e-3, atol=2e-4)


@pytest.mark.usefixtures("as_on_a_queue")
@pytest.mark.parametrize("keep", [0, None])
@torch.no_grad()
def test_guidance_in_one_batch_equals_two_passes(keep: int | None) -> None:
    model, x, steps, maps, weights = make()
    conditioning, null = (model.condition(each, keep_bytes=keep) for each in (maps, null_map(model)))
    expected = plain_guided(weights, model.config.head_channels, x, steps, maps, 1.5)
    actual = guided_network(model, conditioning, null, 1.5)(x, steps)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.usefixtures("as_on_a_queue")
@torch.no_grad()
def test_the_last_layer_is_float32_in_bfloat16_as_well() -> None:
    model, x, steps, maps, _ = make()
    exact = model(x, steps, maps)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x, steps, maps)
    assert rounded.dtype == torch.float32
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < 0.02
    # As bfloat16, its values would be 256 a factor of two, at most.
    assert not torch.equal(rounded, rounded.bfloat16().float())


def test_images_of_a_queue_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = network_of(PRESETS["tiny"], size=16)
    options = SamplingOptions(sampler="dpmpp", steps=3, guidance=1.5, guidance_interval=(0.0, 1e9))
    labels, identities = chest_labels(2, 16), [("a", 0), ("a", 1)]
    images = [sampler_of(config, CPU, options).sample(labels, identities)]
    monkeypatch.setattr(device_choices, "is_queue", lambda device: True)
    images.append(sampler_of(config, CPU, options).sample(labels, identities))
    monkeypatch.setattr("lungforge.models.sdm.slice_sampler.sampling_precision", lambda device: "bfloat16")
    images.append(sampler_of(config, CPU, options).sample(labels, identities))
    exact, queued, rounded = (image.astype(float) for image in images)
    assert exact.std() > 50
    assert abs(queued - exact).max() <= 1
    assert 0 < abs(rounded - exact).mean() < 0.1 * exact.std()

"""What a GPU would be waited for, counted without one: nothing in a step of training or of sampling."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.gpu_steps import (
    StepSettings,
    batch_of,
    chest_labels,
    learner_of,
    network_of,
    sampler_of,
)
from benchmarks.simulated_device import (
    DEVICE,
    HostWaitsError,
    SimulatedDevice,
    WithoutMemory,
    on_simulated_device,
)
from lungforge.models.base import Preset, SamplingOptions
from lungforge.models.gaugan.config import PRESETS as GAUGAN
from lungforge.models.sdm.config import PRESETS as SDM

SIZE = 16


def smallest(model: str, objective: str = "edm") -> Preset:
    if model == "gaugan":
        tiny = GAUGAN["tiny"]
        network = dataclasses.replace(tiny.network, channel_multipliers=(2, 1), latent_channels=4)
        return dataclasses.replace(tiny, network=network)
    tiny = SDM["tiny"]
    network = dataclasses.replace(tiny.network, channel_multipliers=(1,), attention_sizes=(16,))
    learner = dataclasses.replace(tiny.learner, objective=objective)
    return dataclasses.replace(tiny, network=network, learner=learner)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x[0]),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: torch.unique(x),
        lambda x: x[x > 0],
        lambda x: torch.zeros(3).to(x.device),
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: x.new_tensor([0.3, 2.0]),
        lambda x: x.copy_(torch.zeros(4)),
        lambda x: torch.zeros(4).copy_(x),
    ],
)
def test_what_waits_for_the_device_is_refused(wait) -> None:
    x = torch.zeros(4, device=DEVICE)
    with SimulatedDevice(strict=True), pytest.raises(HostWaitsError):
        wait(x)


def test_waits_are_counted_with_their_line() -> None:
    x = torch.zeros(4, device=DEVICE)
    with SimulatedDevice() as device:
        assert (x.sum().item(), x.cpu().tolist(), bool(x.any())) == (1.0, [0.0] * 4, True)
        x.to(DEVICE)
    assert device.waits == {"_local_scalar_dense in the benchmark": 2, "_to_copy in the benchmark": 1}
    assert device.copies == 0


@pytest.mark.parametrize(
    "go",
    [
        lambda x: torch.zeros(4).to(x.device, non_blocking=True),
        lambda x: torch.where(x > 0, x, 0).sum(),
        lambda x: torch.full((4,), 2.0, device=x.device),
        lambda x: torch.zeros(4).sum().item(),
    ],
)
def test_what_does_not_wait_is_left_alone(go) -> None:
    with SimulatedDevice(strict=True):
        go(torch.zeros(4, device=DEVICE))


@pytest.mark.parametrize(("model", "objective"), [("sdm", "edm"), ("sdm", "eps"), ("gaugan", "")])
def test_a_training_step_waits_for_nothing(model: str, objective: str) -> None:
    preset = smallest(model, objective)
    network = network_of(preset, model, SIZE)
    with WithoutMemory():
        learner = learner_of(preset, network, StepSettings(4), on_simulated_device, model)
    micro_batches = batch_of(learner, 4, SIZE).micro_batches(2)
    with SimulatedDevice(strict=True):
        measured = learner.step(micro_batches, 0)
    assert measured.device == DEVICE
    # What the metrics are made of, read back later.
    assert len(learner.metrics([1.0] * len(measured))) == len(learner.METRICS)


@pytest.mark.parametrize("objective", ["edm", "eps"])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp", "heun"])
def test_sampling_waits_for_nothing_until_the_images_are_done(
    objective: str, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = network_of(smallest("sdm", objective), size=SIZE)
    options = SamplingOptions(sampler=sampler, steps=3, guidance=1.5, guidance_interval=(0.0, 1e9))
    with WithoutMemory():
        sampling = sampler_of(config, DEVICE, options)
    done: list[torch.Tensor] = []

    def read(images: torch.Tensor) -> np.ndarray:
        done.append(images)
        return np.zeros((2, SIZE, SIZE), np.int16)

    monkeypatch.setattr("lungforge.models.sdm.slice_sampler.to_hu", read)
    with SimulatedDevice(strict=True) as device:
        sampling.sample(chest_labels(2, SIZE), [("a", 0), ("a", 1)])
    assert done[0].device == DEVICE
    assert done[0].shape == (2, 1, SIZE, SIZE)
    assert device.copies > 0, "maps and noise go there"

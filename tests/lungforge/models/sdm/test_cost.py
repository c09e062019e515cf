"""The counted cost of a network against the network itself."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_steps import network_of
from lungforge.models.sdm.config import PRESETS, UNetConfig
from lungforge.models.sdm.cost import cost_of
from lungforge.models.sdm.unet import SemanticUNet

TWO_LEVELS = UNetConfig(
    image_size=16, base_channels=64, channel_multipliers=(0.5, 1), attention_sizes=(8,), head_channels=32
)


@pytest.mark.parametrize(
    "config",
    [network_of(PRESETS["tiny"]), TWO_LEVELS, dataclasses.replace(TWO_LEVELS, place=True, classes=9)],
)
def test_parameters_and_arithmetic_are_those_of_the_network(config: UNetConfig) -> None:
    with torch.device("meta"):
        network = SemanticUNet(config)
        size = config.image_size
        maps, x = torch.zeros(2, config.classes, size, size), torch.zeros(2, 1, size, size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(x, torch.zeros(2), maps)
    cost = cost_of(config)
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert cost.flops == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


def test_the_published_network_and_that_of_one_gpu() -> None:
    published, smaller = (cost_of(network_of(PRESETS[name])) for name in ("luna256", "luna256-edm"))
    assert published.parameters == 652_242_690
    assert published.flops == pytest.approx(3.3e12, rel=0.02)
    # A day of a GPU of 24 GB.
    assert smaller.training_bytes(8) < 24e9

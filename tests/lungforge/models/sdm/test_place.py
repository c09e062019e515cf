"""The semantic U-Net with places as inputs."""

import dataclasses

import pytest
import torch

from benchmarks.sdm import phantom_maps, randomised
from lungforge.errors import InputError
from lungforge.models.place import VALUES
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.guidance import guided_network, null_map
from lungforge.models.sdm.spec import SPEC
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.sdm.weights import build
from lungforge.models.spade import one_hot

PLAIN = SPEC.preset_config("tiny")
PLACED = dataclasses.replace(PLAIN, place=True)
PLACES = torch.tensor([[-0.4, 0.5, -0.5, 1.0], [1.6, 0.0, 0.0, 1.0]])


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((2, 1, 32, 32), generator=generator)
    maps = one_hot(torch.from_numpy(phantom_maps(32))[:2], 6)
    return x, torch.tensor([100.0, 700.0]), maps


def _network(config: UNetConfig = PLACED) -> SemanticUNet:
    return randomised(config).eval()


@torch.no_grad()
def test_places_change_the_images_and_unknown_ones_are_zeros(inputs) -> None:
    x, times, maps = inputs
    network = _network()
    known = network(x, times, maps, PLACES)
    assert not torch.allclose(known, network(x, times, maps, PLACES.flip(0)))
    unknown = network(x, times, maps)
    assert torch.allclose(unknown, network(x, times, maps, torch.zeros(2, VALUES)), atol=1e-5)
    assert not torch.allclose(known, unknown)


@torch.no_grad()
def test_at_the_start_of_training_a_place_says_nothing(inputs) -> None:
    x, times, maps = inputs
    network = SemanticUNet(PLACED).eval()
    # The last convolution begins with zeros as well.
    torch.nn.init.normal_(network.out[2].weight)
    assert torch.equal(network(x, times, maps, PLACES), network(x, times, maps))


@torch.no_grad()
def test_a_network_without_places_ignores_them(inputs) -> None:
    x, times, maps = inputs
    network = _network(PLAIN)
    assert not [name for name in network.state_dict() if "place" in name]
    assert torch.equal(network(x, times, maps, PLACES), network(x, times, maps))


@torch.no_grad()
def test_guidance_hides_the_map_and_not_the_place(inputs) -> None:
    x, times, maps = inputs
    network = _network()
    output = guided_network(network, network.condition(maps, PLACES), None, 1.5)(x, times)
    given = network(x, times, maps, PLACES)
    hidden = network(x, times, null_map(network).expand_as(maps), PLACES)
    assert torch.allclose(output[:, :1], hidden[:, :1] + 1.5 * (given - hidden)[:, :1], atol=1e-5)


@pytest.mark.parametrize(("written", "read"), [(PLAIN, PLACED), (PLACED, PLAIN)])
def test_weights_tell_whether_there_are_places(written: UNetConfig, read: UNetConfig) -> None:
    weights = _network(written).state_dict()
    build(written, weights)
    with pytest.raises(InputError, match="place"):
        build(read, weights)

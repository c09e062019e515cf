import dataclasses
import json

import pytest
import torch

from lungforge.errors import InputError
from lungforge.models.checkpoint import load_network, to_safetensors
from lungforge.models.document import from_document, to_document
from lungforge.models.gaugan.config import BATCH
from lungforge.models.gaugan.generator import Generator, fold, generate
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.gaugan.weights import build
from lungforge.models.spade import one_hot

TINY = SPEC.preset_config("tiny")


def drawn_of(config) -> Generator:
    torch.manual_seed(0)
    return fold(Generator(config))


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        SPEC.preset_config("tiny", image_channels=3, classes=4),
        dataclasses.replace(TINY, latent_channels=0, encoder=False),
        dataclasses.replace(TINY, norm=BATCH),
    ],
    ids=["tiny", "colour", "map", "batch"],
)
def test_a_round_trip_gives_the_same_image(config):
    generator = drawn_of(config)
    # A moving average holds float32 only, the count of batches included.
    weights = {key: value.float() for key, value in generator.state_dict().items()}
    document = json.loads(json.dumps(to_document(SPEC, config)))
    loaded = load_network(
        to_safetensors(weights), document, classes=config.classes, image_channels=config.image_channels
    )
    assert loaded.config == config
    assert not loaded.training
    maps = one_hot(torch.ones(2, 32, 32, dtype=torch.uint8), config.classes)
    z = torch.randn(2, config.latent_channels) if config.latent_channels else None
    assert torch.equal(generate(loaded, maps, z), generate(generator, maps, z))
    assert {key: value.dtype for key, value in loaded.state_dict().items()} == {
        key: value.dtype for key, value in generator.state_dict().items()
    }


def test_the_same_weights_are_the_same_bytes():
    assert to_safetensors(drawn_of(TINY).state_dict()) == to_safetensors(drawn_of(TINY).state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 7}, "weights have classes 6, the configuration says 7"),
        ({"image_channels": 3}, "weights have image_channels 1, the configuration says 3"),
        ({"latent_channels": 32}, "weights have latent_channels 16, the configuration says 32"),
        (
            {"latent_channels": 0, "encoder": False},
            "weights have latent_channels 16, the configuration says 0",
        ),
        ({"base_channels": 16}, r"weights have widths \(64, 32, 16, 8\), the configuration says \(128"),
        ({"channel_multipliers": (8, 4, 1)}, r"the configuration says \(64, 32, 8\)"),
        ({"norm": BATCH}, "weights lack blocks.0.norm_0.num_batches_tracked"),
        (
            {"image_size": 64},
            r"start.weight has the shape \(1024, 16\), the configuration asks for \(4096, 16\)",
        ),
    ],
)
def test_a_mismatch_is_named(changes, message):
    weights = drawn_of(TINY).state_dict()
    with pytest.raises(InputError, match=message):
        build(dataclasses.replace(TINY, **changes), weights)


def test_an_unknown_tensor_is_named():
    weights = {**drawn_of(TINY).state_dict(), "surplus": torch.zeros(1)}
    with pytest.raises(InputError, match="unknown surplus"):
        build(TINY, weights)


def test_weights_in_training_are_refused_with_the_remedy():
    with pytest.raises(InputError, match="fold it"):
        build(TINY, Generator(TINY).state_dict())


@pytest.mark.parametrize("weights", [{}, {"a": torch.zeros(1)}, {"blocks.x.y": torch.zeros(1)}])
def test_weights_of_something_else_are_refused(weights):
    with pytest.raises(InputError, match="not of a GauGAN generator"):
        build(TINY, weights)


def test_data_of_another_kind_is_refused():
    generator = drawn_of(TINY)
    data, document = to_safetensors(generator.state_dict()), to_document(SPEC, TINY)
    with pytest.raises(InputError, match="the network has classes 6, the data has 7"):
        load_network(data, document, classes=7)
    with pytest.raises(InputError, match="the network has image_channels 1, the data has 3"):
        load_network(data, document, image_channels=3)
    with pytest.raises(InputError, match="not a sound safetensors file"):
        load_network(data[:-10], document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "describes the model None; known are sdm, gaugan"),
        ({"model": ["gaugan"]}, "describes the model"),
        ({"model": "gaugan"}, "the network of gaugan has the fields .*; check None"),
        ({"model": "sdm", "network": {}}, "the network of sdm has the fields"),
    ],
)
def test_a_document_of_no_known_network_is_refused(document, message):
    with pytest.raises(InputError, match=message):
        from_document(document)

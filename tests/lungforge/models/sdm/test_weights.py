import dataclasses
import json

import pytest
import torch

from lungforge.errors import ContentError, InputError
from lungforge.models.checkpoint import load_network, to_safetensors
from lungforge.models.document import to_document
from lungforge.models.sdm.spec import SPEC
from lungforge.models.sdm.unet import SemanticUNet, UNetConfig
from lungforge.models.sdm.weights import build, check_weights, weights_config

TINY = SPEC.preset_config("tiny")


def meta_weights(config: UNetConfig) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return SemanticUNet(config).state_dict()


def test_a_network_survives_bytes_and_json():
    torch.manual_seed(0)
    model = SemanticUNet(SPEC.preset_config("tiny", image_channels=3, classes=4))
    document = json.loads(json.dumps(to_document(SPEC, model.config)))
    again = load_network(to_safetensors(model.state_dict()), document, classes=4, image_channels=3)
    assert again.config == model.config
    assert not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert to_safetensors(again.state_dict()) == to_safetensors(model.state_dict())


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        SPEC.preset_config("luna256", image_channels=3, classes=7),
        UNetConfig(image_size=512, channel_multipliers=(0.5, 1, 1, 2, 2, 4, 4), attention_sizes=(32, 16, 8)),
        UNetConfig(
            image_size=64, base_channels=64, channel_multipliers=(1,), attention_sizes=(), residual_blocks=3
        ),
    ],
)
def test_the_configuration_can_be_read_off_the_weights(config):
    derived = weights_config(
        meta_weights(config), image_size=config.image_size, head_channels=config.head_channels
    )
    # No shape tells the objective: weights without a document are those of released files.
    assert derived == dataclasses.replace(config, objective="eps")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classes": 9},
            r"weights have classes 6, the configuration says 9; use the configuration",
        ),
        ({"image_channels": 3}, r"weights have image_channels 1, .* says 3"),
        ({"base_channels": 64}, r"weights have base_channels 32, .* says 64"),
        ({"channel_multipliers": (1, 3)}, r"weights have channel_multipliers \(1, 2\)"),
        ({"residual_blocks": 2}, r"weights have residual_blocks 1"),
        ({"attention_sizes": (32, 16)}, r"weights have attention_sizes \(16,\)"),
    ],
)
def test_weights_of_another_network_are_refused_with_what_to_pass(changes, message):
    with pytest.raises(InputError, match=message):
        check_weights(
            meta_weights(TINY),
            dataclasses.replace(TINY, **changes),
        )


def test_data_of_another_class_count_is_refused_on_load():
    model = SemanticUNet(TINY)
    with pytest.raises(InputError, match="has classes 6, the data has 9"):
        load_network(to_safetensors(model.state_dict()), to_document(SPEC, model.config), classes=9)


def test_damaged_weights_are_refused():
    model = SemanticUNet(TINY)
    data, document = to_safetensors(model.state_dict()), to_document(SPEC, model.config)
    with pytest.raises(InputError, match="safetensors"):
        load_network(data[: len(data) // 2], document)
    with pytest.raises(InputError, match="network of gaugan has the fields"):
        load_network(data, {**document, "model": "gaugan"})
    with pytest.raises(InputError, match="describes the model 'pickle'; known are sdm, gaugan"):
        load_network(data, {**document, "model": "pickle"})
    lacking = {key: value for key, value in model.state_dict().items() if key != "out.2.bias"}
    with pytest.raises(InputError, match=r"lack out\.2\.bias"):
        build(TINY, lacking)
    with pytest.raises(InputError, match="not of a semantic diffusion network"):
        build(TINY, {"weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_embed.0.weight", torch.zeros(4)),
        ("time_embed.0.weight", torch.zeros(4, 0)),
        ("input_blocks.0.0.weight", torch.zeros(4)),
    ],
)
def test_weights_of_odd_sides_are_named(key, value):
    weights = {**SemanticUNet(TINY).state_dict(), key: value}
    with pytest.raises(ContentError, match="they are not of a semantic diffusion network"):
        weights_config(weights, image_size=32, head_channels=32)

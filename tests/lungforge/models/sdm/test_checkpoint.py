import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch

from lungforge.errors import InputError
from lungforge.models.model_dataset import to_safetensors
from lungforge.models.sdm.checkpoint import (
    build,
    check_weights,
    from_safetensors,
    read_released,
    to_document,
    weights_config,
)
from lungforge.models.sdm.unet import SemanticUNet, UNetConfig, luna256, tiny


def meta_weights(config: UNetConfig) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return SemanticUNet(config).state_dict()


def test_a_network_survives_bytes_and_json():
    torch.manual_seed(0)
    model = SemanticUNet(tiny(image_channels=3, classes=4))
    document = json.loads(json.dumps(to_document(model.config)))
    again = from_safetensors(to_safetensors(model.state_dict()), document, classes=4, image_channels=3)
    assert again.config == model.config
    assert not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert to_safetensors(again.state_dict()) == to_safetensors(model.state_dict())


@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        luna256(image_channels=3, classes=7),
        UNetConfig(image_size=512, channel_multipliers=(0.5, 1, 1, 2, 2, 4, 4), attention_sizes=(32, 16, 8)),
        UNetConfig(
            image_size=64, base_channels=64, channel_multipliers=(1,), attention_sizes=(), residual_blocks=3
        ),
    ],
)
def test_the_configuration_can_be_read_off_the_weights(config):
    found = weights_config(
        meta_weights(config), image_size=config.image_size, head_channels=config.head_channels
    )
    assert found == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 9}, r"weights have classes 6, the configuration says 9; pass classes 6"),
        ({"image_channels": 3}, r"weights have image_channels 1, .* says 3"),
        ({"base_channels": 64}, r"weights have base_channels 32, .* says 64"),
        ({"channel_multipliers": (1, 3)}, r"weights have channel_multipliers \(1, 2\)"),
        ({"residual_blocks": 2}, r"weights have residual_blocks 1"),
        ({"attention_sizes": (32, 16)}, r"weights have attention_sizes \(16,\)"),
    ],
)
def test_weights_of_another_network_are_refused_with_what_to_pass(changes, message):
    with pytest.raises(InputError, match=message):
        check_weights(meta_weights(tiny()), dataclasses.replace(tiny(), **changes))


def test_data_of_another_class_count_is_refused_on_load():
    model = SemanticUNet(tiny())
    with pytest.raises(InputError, match="has classes 6, the data has 9"):
        from_safetensors(to_safetensors(model.state_dict()), to_document(model.config), classes=9)


def test_damaged_weights_are_refused():
    model = SemanticUNet(tiny())
    data, document = to_safetensors(model.state_dict()), to_document(model.config)
    with pytest.raises(InputError, match="safetensors"):
        from_safetensors(data[: len(data) // 2], document)
    with pytest.raises(InputError, match="'gaugan'"):
        from_safetensors(data, {**document, "model": "gaugan"})
    lacking = {key: value for key, value in model.state_dict().items() if key != "out.2.bias"}
    with pytest.raises(InputError, match=r"lack out\.2\.bias"):
        build(tiny(), lacking)
    with pytest.raises(InputError, match="not of a semantic diffusion network"):
        build(tiny(), {"weight": torch.zeros(1)})


def test_a_released_state_dict_loads_and_a_file_with_code_does_not(tmp_path: Path):
    weights = SemanticUNet(tiny()).state_dict()
    torch.save(weights, tmp_path / "released.pt")
    assert build(tiny(), read_released(tmp_path / "released.pt")).config == tiny()

    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    (tmp_path / "code.pt").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InputError, match="cannot be read"):
        read_released(tmp_path / "code.pt")
    assert not (tmp_path / "harm").exists()
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="no state dict"):
        read_released(tmp_path / "list.pt")
    with pytest.raises(InputError, match="there is no file"):
        read_released(tmp_path / "missing.pt")

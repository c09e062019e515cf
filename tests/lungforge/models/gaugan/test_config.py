import dataclasses

import pytest

from lungforge.errors import InputError
from lungforge.models.gaugan.config import GauGANConfig, cpu, luna256, tiny


def test_sizes_double_from_a_grid_of_four_to_the_image():
    assert luna256().sizes == (4, 8, 16, 32, 64, 128, 256)
    assert luna256().widths == (1024, 1024, 1024, 512, 256, 128, 64)


@pytest.mark.parametrize("preset", [tiny, cpu, luna256])
def test_a_document_gives_the_configuration_back(preset):
    config = preset(image_channels=3, classes=9)
    assert (config.image_channels, config.classes) == (3, 9)
    assert GauGANConfig.from_document(config.to_document()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "image_size is 100; 7 channel_multipliers need a multiple of 64"),
        ({"image_size": 64}, "at least 128"),
        ({"image_size": 4, "channel_multipliers": (1,)}, "at least 8"),
        ({"classes": 0}, "classes has 0"),
        ({"base_channels": 8.0}, "base_channels has 8.0"),
        ({"image_channels": True}, "image_channels has True"),
        ({"channel_multipliers": ()}, "channel_multipliers is empty"),
        ({"channel_multipliers": (2, 0)}, "channel_multipliers has 0"),
        ({"latent_channels": 0}, "encoder is on, but latent_channels is 0"),
        ({"encoder": "no"}, "encoder is 'no'"),
        ({"norm": "layer"}, "choose instance or batch"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(luna256(), **changes)


def test_a_document_with_other_fields_is_refused():
    with pytest.raises(InputError, match="check \\['widths'\\]"):
        GauGANConfig.from_document({**tiny().to_document(), "widths": 3})
    with pytest.raises(InputError, match="channel_multipliers is 8; give a list"):
        GauGANConfig.from_document({**tiny().to_document(), "channel_multipliers": 8})

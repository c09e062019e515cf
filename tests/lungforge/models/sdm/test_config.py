import json

import pytest

from lungforge.errors import InputError
from lungforge.models.sdm.config import UNetConfig, cpu, luna256, tiny


@pytest.mark.parametrize("preset", [tiny, cpu, luna256])
def test_a_preset_survives_json(preset):
    config = preset(image_channels=3, classes=7)
    assert UNetConfig.from_document(json.loads(json.dumps(config.to_document()))) == config


def test_fractional_multipliers_make_the_published_512_px_network():
    config = UNetConfig(image_size=512, channel_multipliers=(0.5, 1, 1, 2, 2, 4, 4))
    assert config.widths == (128, 256, 256, 512, 512, 1024, 1024)
    assert config.sizes == (512, 256, 128, 64, 32, 16, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "image_size 100"),
        ({"base_channels": 48}, "multiple of 32"),
        ({"channel_multipliers": ()}, "channel_multipliers"),
        ({"attention_sizes": (7,)}, "attention_sizes has 7"),
        ({"head_channels": 48}, "head_channels 48"),
        ({"classes": 0}, "classes is 0"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_no_network_has_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        UNetConfig(**changes)


def test_a_document_with_other_fields_is_refused():
    with pytest.raises(InputError, match="widht"):
        UNetConfig.from_document({**tiny().to_document(), "widht": 3})

import dataclasses

import pytest

from lungforge.errors import InputError
from lungforge.models.document import from_document, to_document
from lungforge.models.gaugan.spec import SPEC


def test_sizes_double_from_a_grid_of_four_to_the_image():
    assert SPEC.preset_config("luna256").sizes == (4, 8, 16, 32, 64, 128, 256)
    assert SPEC.preset_config("luna256").widths == (1024, 1024, 1024, 512, 256, 128, 64)


@pytest.mark.parametrize("preset", ["tiny", "cpu", "luna256"])
def test_a_document_gives_the_configuration_back(preset):
    config = SPEC.preset_config(preset, image_channels=3, classes=9)
    assert (config.image_channels, config.classes) == (3, 9)
    assert from_document(to_document(SPEC, config)) == (SPEC, config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "image_size is 100; 7 --channel-multipliers need a multiple of 64"),
        ({"image_size": 64}, "at least 128"),
        ({"image_size": 4, "channel_multipliers": (1,)}, "at least 8"),
        ({"classes": 0}, "--classes is 0; give at least 1"),
        ({"base_channels": 8.0}, "--base-channels is 8; give a whole number"),
        ({"image_channels": True}, "--image-channels is True; give a whole number, at least 1"),
        ({"channel_multipliers": ()}, "--channel-multipliers is empty"),
        ({"channel_multipliers": (2, 0)}, "--channel-multipliers is 2 0; give at least 1"),
        ({"latent_channels": 0}, "encoder is on, but --latent-channels is 0"),
        ({"encoder": "no"}, "--encoder is 'no'; give true or false"),
        ({"norm": "layer"}, "choose instance or batch"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SPEC.preset_config("luna256"), **changes)


def test_a_document_with_other_fields_is_refused():
    network = to_document(SPEC, SPEC.preset_config("tiny"))["network"]
    with pytest.raises(InputError, match="check \\['widths'\\]"):
        from_document({"model": "gaugan", "network": {**network, "widths": 3}})
    with pytest.raises(InputError, match="channel-multipliers is 8; give a list"):
        from_document({"model": "gaugan", "network": {**network, "channel_multipliers": 8}})

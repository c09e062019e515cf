import json

import pytest

from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.document import from_document, to_document
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.spec import SPEC


@pytest.mark.parametrize("preset", ["tiny", "cpu", "luna256"])
def test_a_preset_survives_json(preset):
    config = SPEC.preset_config(preset, image_channels=3, classes=7)
    assert from_document(json.loads(json.dumps(to_document(SPEC, config)))) == (SPEC, config)


def test_fractional_multipliers_make_the_published_512_px_network():
    config = UNetConfig(image_size=512, channel_multipliers=(0.5, 1, 1, 2, 2, 4, 4))
    assert config.widths == (128, 256, 256, 512, 512, 1024, 1024)
    assert config.sizes == (512, 256, 128, 64, 32, 16, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "image_size 100"),
        ({"base_channels": 48}, "multiple of 32"),
        ({"channel_multipliers": ()}, "--channel-multipliers is empty"),
        ({"attention_sizes": (7,)}, "--attention-sizes has 7"),
        ({"head_channels": 48}, "--head-channels 48"),
        ({"classes": 0}, "classes is 0; give at least 1"),
        ({"dropout": 1.0}, "--dropout is 1; give at least 0 and below 1"),
    ],
)
def test_what_no_network_has_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        UNetConfig(**changes)


def test_a_document_with_other_fields_is_refused():
    document = to_document(SPEC, SPEC.preset_config("tiny"))
    with pytest.raises(InputError, match="widht"):
        from_document({**document, "network": {**document["network"], "widht": 3}})


def test_where_guidance_acts_grows_with_the_side_as_the_noise_of_training_does():
    def interval(side, objective="edm", given=None):
        config = UNetConfig(image_size=side, objective=objective)
        return SPEC.sampling(config, SamplingOptions(guidance_interval=given)).guidance_interval

    assert interval(64) == (0.4, 1.61)
    assert interval(256) == (1.6, 6.44)
    # A level of noise that was asked for is that level, and the published objective is guided everywhere.
    assert interval(256, given=(0.5, 2.0)) == (0.5, 2.0)
    assert interval(256, objective="eps") is None

"""Generators by name; and what each of them promises."""

import pytest

from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.registry import GENERATORS, find_generator, load_generator
from services.train.presets import PRESETS

#: Sides of the images that each preset is for.
_SIZES = {"tiny": 32, "cpu": 64, "luna256": 256, "luna256-edm": 256, "luna512-patch": 256}


def test_an_unknown_name_lists_the_known() -> None:
    assert find_generator("vae") is None
    with pytest.raises(InputError, match="--model is 'vae'; choose one of sdm, gaugan"):
        load_generator("vae")


def test_no_path_of_code_is_a_name() -> None:
    assert find_generator("lungforge.models.sdm.spec:SPEC") is None


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_spec_has_the_presets_of_the_command_line_and_they_are_possible(name: str) -> None:
    spec = load_generator(name)
    assert {"tiny", "cpu", "luna256"} <= set(spec.presets) <= set(PRESETS)
    sizes = {preset: spec.preset_config(preset).image_size for preset in spec.presets}
    assert sizes == {preset: _SIZES[preset] for preset in spec.presets}
    for preset in spec.presets.values():
        assert isinstance(preset.network, spec.network_options)
        assert isinstance(preset.learner, spec.learner_options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sampler": "euler"}, "--sampler is 'euler'; choose one of ancestral, ddim, dpmpp, heun"),
        ({"steps": 0}, "--steps is 0; give a number from 1 to 1000"),
        ({"guidance": -1.0}, "--guidance is -1; give at least 0"),
    ],
)
def test_how_to_sample_is_checked(wrong: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        SamplingOptions(**wrong)
    assert str(error.value) == message

"""What a training configuration refuses, and what of it decides the result."""

import dataclasses
from typing import Any

import pytest

from lungforge.config import identity
from lungforge.errors import InputError
from lungforge.models.gaugan import config as gan_config
from services.train.config import TrainConfig
from services.train.presets import PRESETS, cpu, luna256, published, tiny


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 0}, "--batch is 0; give at least 1"),
        ({"batch": 6, "workers": 4}, "--batch 6 cannot be shared equally by --workers 4"),
        ({"steps": 0}, "--steps is 0"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0; give a number above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"map_drop": 1.5}, "--map-drop is 1.5; give a share from 0 to 1"),
        ({"average_decay": 1.0}, "--average-decay is 1.0"),
        ({"warm_up": -1}, "--warm-up is -1; give 0 or more"),
        ({"subsets": ()}, "--subsets is empty"),
        ({"gpus_per_worker": 2}, "--gpus-per-worker is 2; a worker has 0 or 1"),
        ({"seed": -1}, "--seed is -1"),
        ({"model": "vae"}, "--model is 'vae'; choose sdm or gaugan"),
        ({"model": "gaugan"}, "--map-drop is 0.1; gaugan draws from maps alone, so give --map-drop 0"),
        ({"model": "gaugan", "map_drop": 0.0, "compile": True}, "--compile is for --model sdm"),
        ({"precision": "float16"}, "--precision is 'float16'; choose float32 or bfloat16"),
        ({"clip": 0.0}, "--clip is 0.0; give a number above 0, or None"),
        (
            {"batch": 8, "workers": 2, "pieces": 3},
            "--batch 8 cannot be shared equally by --workers 2 in --pieces 3",
        ),
        (
            {"model": "gaugan", "map_drop": 0.0, "channel_multipliers": (4, 1.5), "patch": 32},
            "channel_multipliers has 1.5",
        ),
        ({"patch": 60}, "image_size 60 cannot be halved 5 times"),
        ({"keep": 0}, "--keep is 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        TrainConfig(data="slices", out="model", **values)
    assert message in str(error.value)


def test_where_and_how_fast_do_not_decide_the_result() -> None:
    plain = tiny("slices", "model")
    elsewhere = dataclasses.replace(
        plain, data="s3://lab/slices", out="x", workers=4, cpus_per_worker=2, gpus_per_worker=1, keep=9
    )
    elsewhere = dataclasses.replace(elsewhere, pieces=2, activation_checkpointing=True, compile=True)
    assert identity(elsewhere) == identity(plain)
    written_otherwise = dataclasses.replace(plain, channel_multipliers=(1.0, 2.0))
    assert identity(written_otherwise) == identity(plain)
    for change in ({"seed": 1}, {"batch": 16}, {"steps": 7}, {"map_drop": 0.2}, {"subsets": (1,)}):
        assert identity(dataclasses.replace(plain, **change)) != identity(plain)


def test_presets_have_possible_networks() -> None:
    assert {None: published, "tiny": tiny, "cpu": cpu, "luna256": luna256} == PRESETS
    assert tiny("a", "b").network(32).widths == (32, 64)
    assert cpu("a", "b").network(64).sizes == (64, 32, 16, 8)
    assert luna256("a", "b").network(256).widths == (256, 256, 512, 512, 1024, 1024)
    assert published("a", "b") == TrainConfig(data="a", out="b")


def test_presets_of_the_baseline_are_its_published_shapes() -> None:
    assert tiny("a", "b", "gaugan").network(32) == gan_config.tiny()
    assert cpu("a", "b", "gaugan").network(64) == gan_config.cpu()
    for preset in (luna256, published):
        assert preset("a", "b", "gaugan").network(256) == gan_config.luna256()

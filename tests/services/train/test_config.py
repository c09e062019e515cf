"""What a training configuration refuses, and what of it decides the result."""

import dataclasses
from typing import Any

import pytest

from lungforge.config import identity
from lungforge.errors import InputError
from services.train.config import PRESETS, TrainConfig, cpu, luna256, tiny


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
        ({"model": "vae"}, "--model is 'vae'; the generators are: sdm"),
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
    assert identity(elsewhere) == identity(plain)
    for change in ({"seed": 1}, {"batch": 16}, {"steps": 7}, {"map_drop": 0.2}, {"subsets": (1,)}):
        assert identity(dataclasses.replace(plain, **change)) != identity(plain)


def test_presets_have_possible_networks() -> None:
    assert {"tiny": tiny, "cpu": cpu, "luna256": luna256} == PRESETS
    assert tiny("a", "b").network(32).widths == (32, 64)
    assert cpu("a", "b").network(64).sizes == (64, 32, 16, 8)
    assert luna256("a", "b").network(256).widths == (256, 256, 512, 512, 1024, 1024)

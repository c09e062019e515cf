"""What a training configuration refuses, and what of it decides the result."""

import dataclasses
from typing import Any

import pytest

from lungforge.config import identity
from lungforge.errors import InputError
from lungforge.models.base import LearnerOptions
from lungforge.models.gaugan.config import GauGANOptions
from lungforge.models.gaugan.spec import SPEC as GAUGAN
from lungforge.models.sdm.config import DiffusionOptions, UNetOptions
from services.train.config import TrainConfig
from services.train.presets import (
    PRESETS,
    TrainPreset,
    cpu,
    luna256,
    luna256_edm,
    luna512_patch,
    tiny,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 0}, "--batch is 0; give at least 1"),
        ({"batch": 6, "workers": 4}, "--batch 6 cannot be shared equally by --workers 4"),
        ({"steps": 0}, "--steps is 0"),
        ({"learning_rate": 0.0}, "--learning-rate is 0; give a number above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"flip": 1.5}, "--flip is 1.5; give a number from 0 to 1"),
        ({"ema_length": 0.3}, "--ema-length is 0.3; give a number from 0.01 to 0.28"),
        ({"warmup_steps": -1}, "--warmup-steps is -1; give at least 0"),
        ({"subsets": ()}, "--subsets is empty"),
        ({"gpus_per_worker": 2}, "--gpus-per-worker is 2; give a number from 0 to 1"),
        ({"seed": -1}, "--seed is -1"),
        ({"model": "vae"}, "--model is 'vae'; choose one of sdm, gaugan"),
        ({"model": "gaugan"}, "--network is of another generator than --model gaugan"),
        ({"network": GauGANOptions()}, "--network is of another generator than --model sdm"),
        ({"learner": LearnerOptions()}, "--learner is of another generator than --model sdm"),
        ({"precision": "float16"}, "--precision is 'float16'; choose float32 or bfloat16"),
        ({"max_grad_norm": 0.0}, "--max-grad-norm is 0; give a number above 0"),
        (
            {"batch": 8, "workers": 2, "gradient_accumulation": 3},
            "--batch 8 cannot be shared equally by --workers 2 with --gradient-accumulation 3; "
            "give a multiple of 6",
        ),
        ({"patch": 96}, "--network.attention-sizes has 32; the feature maps have the sides 96 48 24"),
        ({"patch": 60}, "image_size 60 cannot be halved 5 times"),
        ({"keep": 0}, "--keep is 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        TrainConfig(data="slices", out="model", **values)
    assert message in str(error.value)


def test_a_wrong_option_of_a_generator_is_named() -> None:
    with pytest.raises(InputError, match=r"--condition-dropout is 1.5; give a number from 0 to 1"):
        DiffusionOptions(condition_dropout=1.5)
    with pytest.raises(InputError, match=r"--channel-multipliers is 4 1.5; give a whole number, at least 1"):
        GauGANOptions(channel_multipliers=(4, 1.5))  # type: ignore[arg-type]


def test_where_and_how_fast_do_not_decide_the_result() -> None:
    plain = tiny("slices", "model")
    elsewhere = dataclasses.replace(
        plain, data="s3://lab/slices", out="x", workers=4, cpus_per_worker=2, gpus_per_worker=1, keep=9
    )
    learner = DiffusionOptions(activation_checkpointing=True, compile=True)
    elsewhere = dataclasses.replace(elsewhere, gradient_accumulation=2, learner=learner)
    assert identity(elsewhere) == identity(plain)
    network = dataclasses.replace(plain.network, channel_multipliers=(1.0, 2.0))  # type: ignore[call-arg]
    written_otherwise = dataclasses.replace(plain, network=network)
    assert identity(written_otherwise) == identity(plain)
    for change in (
        {"seed": 1},
        {"batch": 16},
        {"steps": 7},
        {"learner": DiffusionOptions(condition_dropout=0.2)},
        {"network": UNetOptions()},
        {"subsets": (1,)},
        {"ema_length": 0.05},
        {"keep_averages": True},
    ):
        assert identity(dataclasses.replace(plain, **change)) != identity(plain)


@pytest.mark.parametrize(
    ("length", "keep", "lengths"),
    [
        (0.1, False, (0.1,)),
        (0.1, True, (0.1, 0.05)),
        (0.05, True, (0.05, 0.1)),
        (0.2, True, (0.2, 0.05, 0.1)),
    ],
)
def test_the_average_of_the_model_comes_first(length: float, keep: bool, lengths: tuple[float, ...]) -> None:
    config = dataclasses.replace(tiny("a", "b"), ema_length=length, keep_averages=keep)
    assert config.average_lengths == lengths


def test_presets_have_possible_networks() -> None:
    assert {
        "tiny": tiny,
        "cpu": cpu,
        "luna256": luna256,
        "luna256-edm": luna256_edm,
        "luna512-patch": luna512_patch,
    } == PRESETS
    assert luna256_edm("a", "b").network_config(256).widths == (128, 128, 256, 256, 512, 512)
    patches = luna512_patch("a", "b", workers=2)
    assert (patches.patch, patches.batch, patches.network_config(256).place) == (256, 16, True)
    assert tiny("a", "b").network_config(32).widths == (32, 64)
    assert cpu("a", "b").network_config(64).sizes == (64, 32, 16)
    assert luna256("a", "b").network_config(256).widths == (256, 256, 512, 512, 1024, 1024)
    everywhere = {"precision": "float32", "gpus_per_worker": 0, "cpus_per_worker": 1}
    assert dataclasses.replace(luna256("a", "b"), **everywhere) == TrainConfig(data="a", out="b")


def test_presets_of_the_baseline_are_its_published_shapes() -> None:
    assert tiny("a", "b", "gaugan").network_config(32) == GAUGAN.preset_config("tiny")
    assert cpu("a", "b", "gaugan").network_config(64) == GAUGAN.preset_config("cpu")
    assert luna256("a", "b", "gaugan").network_config(256) == GAUGAN.preset_config("luna256")


@pytest.mark.parametrize(
    ("preset", "workers", "batch"),
    [
        (luna256, 8, 32),
        (luna256, 3, 12),
        (luna256_edm, 4, 32),
        (tiny, 2, 8),
        (tiny, 3, 9),
        (cpu, 16, 16),
    ],
)
def test_presets_scale_with_the_workers(preset: TrainPreset, workers: int, batch: int) -> None:
    config = preset("a", "b", workers=workers)
    assert (config.workers, config.batch) == (workers, batch)


@pytest.mark.parametrize("preset", [luna256, tiny])
def test_no_workers_are_refused_in_every_preset(preset: TrainPreset) -> None:
    with pytest.raises(InputError, match="--workers"):
        preset("a", "b", workers=0)

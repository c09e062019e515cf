"""The claims about GPUs, on the smallest networks: no waits, no float32, no layout flips, no recompiling."""

import dataclasses
import json

import pytest
import torch

from benchmarks import gpu_readiness
from benchmarks.gpu_profile import Operation, training_profile
from benchmarks.gpu_readiness import (
    Compilation,
    Readiness,
    Waits,
    compilation,
    sampling_report,
    smallest,
    training_report,
    training_waits,
)
from benchmarks.gpu_steps import network_of
from lungforge.models.cost import COPY_BYTES, GPUS, Gpu
from lungforge.models.sdm import blocks
from lungforge.models.sdm.config import PRESETS
from lungforge.models.sdm.cost import cost_of
from lungforge.models.sdm.normalisation import group_norm, modulate


def test_a_kernel_takes_the_longer_of_arithmetic_and_memory() -> None:
    gpu = Gpu(bfloat16_flops=100.0, float32_flops=10.0, bytes_per_second=50.0, memory_bytes=0)
    assert Operation(600, True, 0).seconds(gpu) == pytest.approx(10)
    assert Operation(60, False, 0).seconds(gpu) == pytest.approx(10)
    assert Operation(60, True, 80).seconds(gpu) == pytest.approx(2)


def test_a_step_keeps_hardly_any_float32_and_its_layout() -> None:
    config = network_of(PRESETS["tiny"])
    profile = training_profile(config, 2)
    assert profile.float32_share < gpu_readiness.LARGEST_FLOAT32_SHARE
    assert not profile.layout_flips
    cost = cost_of(config)
    assert profile.flops == pytest.approx(2 * cost.flops, rel=0.01)
    kept = 2 * cost.kept_bytes + COPY_BYTES * cost.parameters
    assert sum(profile.kept.values()) == pytest.approx(kept, rel=0.02)


def test_norms_of_autocast_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def composed(x, layer, *modulations):
        h = group_norm(x, layer)
        for scale, shift in modulations:
            h = modulate(h, scale, shift)
        return torch.nn.functional.silu(h)

    monkeypatch.setattr(blocks, "norm_activate", composed)
    profile = training_profile(network_of(smallest("sdm"), size=16), 2)
    assert profile.float32_share > 2 * gpu_readiness.LARGEST_FLOAT32_SHARE
    assert profile.layout_flips["native_group_norm"] == 20


def test_a_wait_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from lungforge.models.learner import Trained

    assert training_waits("sdm") == Waits({}, 5)
    clip = Trained.clip_grad_norm
    monkeypatch.setattr(
        Trained, "clip_grad_norm", lambda *given: torch.tensor(float(clip(*given))).to("meta")
    )
    assert sum(training_waits("sdm").readings.values()) == 2


@pytest.mark.slow
def test_blocks_compile_once_each_and_whole() -> None:
    compiled = compilation(smallest("sdm"), 16)
    assert compiled == Compilation(
        blocks=compiled.blocks, graphs=compiled.blocks, graph_breaks=0, recompiled=0
    )
    assert compiled.blocks > 8, "more than PyTorch compiles of one code by default"


def test_reports_say_what_is_missed_and_become_json() -> None:
    preset = dataclasses.replace(smallest("sdm"), image_size=16)
    training, sampling = training_report(preset, 2), sampling_report(preset, 2, 12)
    sound = Readiness({"a": Waits({}, 5)}, Compilation(3, 3, 0, 0), {"b": training}, {"b": sampling})
    assert sound.missed() == []
    assert set(json.loads(json.dumps(dataclasses.asdict(sound)))["training"]["b"]["predictions"]) == set(GPUS)
    bad = dataclasses.replace(
        sound, waits={"a": Waits({"item": 1}, 5)}, compilation=Compilation(9, 8, 1, 0), sampling={}
    )
    assert [line.split(":")[0] for line in bad.missed()] == ["a", "compilation"]
    each = training.predictions["H100"]
    assert each.images_per_second == pytest.approx(2 / each.seconds)
    assert sampling.predictions["H100"].images_per_second == pytest.approx(
        2 / sampling.predictions["H100"].seconds / 12
    )

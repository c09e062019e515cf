"""Costs against hand-derived numbers."""

import pytest

from lungforge.models.cost import GPUS, Cost, training_line


def test_memory_and_time_follow_from_parameters_and_arithmetic() -> None:
    cost = Cost(parameters=100_000_000, flops=1e12, kept_bytes=1e9)
    # 1.15 * (22 * 1e8 + 4 * 1e9)
    assert cost.training_bytes(4) == pytest.approx(7.13e9)
    # Three passes of 4 TFLOP, at 40 % of 312 TFLOP/s.
    assert cost.step_seconds(4, GPUS["A100"]) == pytest.approx(12 / 124.8)


def test_a_run_says_what_it_takes() -> None:
    cost = Cost(parameters=652_000_000, flops=3.3e12, kept_bytes=2.87e9)
    assert training_line(cost, images=4, workers=8, steps=80_000) == (
        "652 M parameters; 80,000 steps of 32 images on 8 GPUs, about 28 GiB each; "
        "hours by the datasheets: 2 on H200, 2 on H100, 7 on A100, 13 on RTX 4090"
    )
    assert "of 4 images on 1 GPU, about 28 GiB; hours" in training_line(cost, images=4, workers=1, steps=1)

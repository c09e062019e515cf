"""The script for the day that a GPU is there: tried on the CPU, and its checks where there is one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import SMOKE_CASES, Check, Clock, correctness, measure, sampling_rate, training_rate
from benchmarks.gpu_steps import StepSettings, batch_of, learner_of, network_of
from lungforge.models.sdm.config import PRESETS

NO_GPU = "needs a CUDA device, and PyTorch sees none"
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
ROOT = Path(__file__).parents[2]


def test_a_bound_holds_for_what_is_not_above_it() -> None:
    assert Check(1.0, 1.0).holds
    assert not Check(1.1, 1.0).holds
    assert not Check(float("nan"), 1.0).holds


@pytest.mark.slow
def test_the_script_runs_on_a_cpu_and_finds_it_correct() -> None:
    report = measure(torch.device("cpu"), 0.02)
    assert all(check.holds for check in report.checks.values())
    assert report.checks["samples in float32"].value == 0
    assert report.checks["samples in bfloat16"].value > 0
    for rates in (report.training, report.sampling):
        (rate,) = rates.values()
        assert rate.images_per_second == pytest.approx(SMOKE_CASES[0].training_images * rate.steps_per_second)
        assert rate.plain_steps_per_second is not None


def test_the_script_needs_only_what_an_image_of_pytorch_has() -> None:
    missing = [
        "ray",
        "rich",
        "SimpleITK",
        "matplotlib",
        "tyro",
        "torchvision",
        "pydicom",
        "s3fs",
        "boto3",
        "botocore",
        "sklearn",
    ]
    code = (
        f"import sys\nfor name in {missing}: sys.modules[name] = None\n"
        "import benchmarks.gpu\nfrom lungforge.models.registry import load_generator\nload_generator('sdm')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.gpu
@on_gpu
def test_a_gpu_gives_what_a_cpu_gives() -> None:
    checks = correctness(torch.device("cuda"))
    assert {name: check for name, check in checks.items() if not check.holds} == {}


@pytest.mark.gpu
@on_gpu
def test_a_step_of_the_published_network_fits_and_is_finite() -> None:
    preset, device = PRESETS["luna256"], torch.device("cuda")
    config = network_of(preset)
    learner = learner_of(preset, config, StepSettings(4, "bfloat16"), lambda module: module.to(device))
    with torch.cuda.device(device):
        torch.cuda.set_sync_debug_mode("error")  # raises where the host would wait
        try:
            batch = batch_of(learner, 4, 256).pinned()
            rows = [learner.step([batch], step) for step in range(2)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(rows)).all()


@pytest.mark.gpu
@on_gpu
def test_rates_of_a_gpu_are_measured() -> None:
    device = torch.device("cuda")
    for rate in (training_rate, sampling_rate):
        found = rate(SMOKE_CASES[0], device, Clock(device, 0.5))
        assert found.busy_share is not None
        assert 0 < found.busy_share <= 1

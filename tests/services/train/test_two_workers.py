"""Two workers: gradients in bfloat16 give nearly the losses of float32; one reads a checkpoint for both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from lungforge.config import identity
from lungforge.datasets import Dataset
from services.train.collectives import compress_gradients
from tests.services.train.two_workers import small_config


@pytest.mark.slow
def test_two_workers_reach_the_losses_of_float32_and_resume_to_the_bit(slices: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(root)}
    command = [sys.executable, root / "tests" / "services" / "train" / "two_workers.py"]
    workers = [
        subprocess.Popen([*command, str(rank), slices, tmp_path], env=environment) for rank in range(2)
    ]
    try:
        assert [worker.wait(500) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    whole, rounded = (
        json.loads(Dataset.open(str(tmp_path / name)).read_file("history.json"))
        for name in ("float32", "bfloat16")
    )
    # The first gradients are of the same weights, and rounded by 2^-9 twice.
    first, second = whole["gradient_norm"][0], rounded["gradient_norm"][0]
    assert first != second
    assert second == pytest.approx(first, rel=2**-8)
    assert rounded["loss"] != whole["loss"]
    assert np.allclose(rounded["loss"], whole["loss"], rtol=0.01)
    # Interrupted and resumed, from a checkpoint that one of the two has read, it is the same model.
    files = [(tmp_path / name / "manifest.json").read_bytes() for name in ("float32", "resumed")]
    assert files[0] == files[1]


def test_one_worker_has_nothing_to_compress() -> None:
    module = nn.Linear(2, 2)
    assert compress_gradients(module) is module


def test_the_option_is_part_of_what_the_run_is_only_where_it_is_given(slices: str, tmp_path: Path) -> None:
    plain, compressed = (small_config(slices, tmp_path, compressed=given) for given in (False, True))
    assert "compress_gradients" not in identity(plain)
    assert identity(compressed) == identity(plain) | {"compress_gradients": True}

"""The loop without Ray: broken off and gone on with, it gives the same bytes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lungforge.config import identity
from lungforge.errors import InputError
from lungforge.store import Dataset, DatasetWriter, Kind
from services.train.config import TrainConfig, tiny
from services.train.job import plan
from services.train.learner import DivergedError
from services.train.loop import Report, train

pytestmark = pytest.mark.usefixtures("one_thread")


class _Killed(BaseException):
    """Stands for a process that ends at this point."""


def _config(slices: str, out: Path, **changes) -> TrainConfig:
    small = dataclasses.replace(
        tiny(slices, str(out)),
        channel_multipliers=(1,),
        attention_sizes=(),
        batch=4,
        steps=9,
        checkpoint_every=2,
    )
    return dataclasses.replace(small, **changes)


def _train(config: TrainConfig, report: Report = lambda done, metrics: None) -> None:
    data = Dataset.open(config.data)
    writer = DatasetWriter(
        uri=config.out, kind=Kind.MODEL, config=identity(config), seed=config.seed, parents=(data.parent(),)
    )
    train(plan(config, data, writer), report)


def _kill_after(steps: int) -> Report:
    def report(done: int, metrics: dict[str, float]) -> None:
        if metrics and done == steps:
            raise _Killed

    return report


@pytest.fixture(scope="module")
def unbroken(slices: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    import torch

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("unbroken")
    _train(_config(slices, out))
    return (out / "manifest.json").read_bytes()


def test_the_model_says_what_it_was_made_from(slices: str, unbroken: bytes) -> None:
    manifest = json.loads(unbroken)
    assert manifest["kind"] == "model"
    assert [(parent["kind"], parent["sha256"]) for parent in manifest["parents"]] == [
        ("slices", Dataset.open(slices).manifest_sha256)
    ]
    details = manifest["details"]
    assert details["series_uids"] == [f"scan-{scan}" for scan in range(5)]
    assert (details["rows"], details["size"], details["classes"], details["steps"]) == (20, 16, 6, 9)
    assert {part["path"].split("/")[1] for part in manifest["parts"]} == {
        "model.safetensors",
        "config.json",
        "history.json",
    }


@pytest.mark.parametrize("killed_after", [1, 2, 5, 9])
def test_killed_and_run_again_equals_unbroken(
    slices: str, tmp_path: Path, unbroken: bytes, killed_after: int
) -> None:
    config = _config(slices, tmp_path / "model")
    with pytest.raises(_Killed):
        _train(config, _kill_after(killed_after))
    first: list[int] = []
    _train(config, lambda done, metrics: first.append(done))
    # From the last checkpoint that was written before the kill, not from the start.
    assert first[0] == (killed_after - 1) // 2 * 2
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


def test_a_damaged_checkpoint_is_passed_over(
    slices: str, tmp_path: Path, unbroken: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(slices, tmp_path / "model")
    with pytest.raises(_Killed):
        _train(config, _kill_after(7))
    folders = sorted((tmp_path / "model" / "checkpoints").glob("*/step-*"))
    assert [folder.name for folder in folders] == ["step-00000004", "step-00000006"]
    weights = folders[1] / "second_moments.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    first: list[int] = []
    _train(config, lambda done, metrics: first.append(done))
    assert first[0] == 4
    assert "second_moments.safetensors: altered since it was written" in capsys.readouterr().err
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


def test_half_a_checkpoint_is_none(slices: str, tmp_path: Path, unbroken: bytes) -> None:
    config = _config(slices, tmp_path / "model")
    with pytest.raises(_Killed):
        _train(config, _kill_after(5))
    newest = sorted((tmp_path / "model" / "checkpoints").glob("*/step-*"))[-1]
    (newest / "checkpoint.json").unlink()
    _train(config)
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


def test_the_newest_checkpoints_are_kept(slices: str, tmp_path: Path) -> None:
    _train(_config(slices, tmp_path / "model", keep=1))
    kept = (tmp_path / "model" / "checkpoints").glob("*/step-*")
    assert [folder.name for folder in kept] == ["step-00000008"]


def test_a_run_of_other_settings_does_not_go_on_from_here(slices: str, tmp_path: Path) -> None:
    with pytest.raises(_Killed):
        _train(_config(slices, tmp_path / "model"), _kill_after(5))
    first: list[int] = []
    _train(_config(slices, tmp_path / "model", learning_rate=2e-3), lambda done, metrics: first.append(done))
    assert first[0] == 0


def test_divergence_stops_with_advice(slices: str, tmp_path: Path) -> None:
    config = _config(slices, tmp_path / "model", learning_rate=1e20, warm_up=0, checkpoint_every=1)
    with pytest.raises(DivergedError) as error:
        _train(config)
    assert "training diverged at step 2: loss" in str(error.value)
    assert "the checkpoint of step 1 is kept" in str(error.value)
    assert "lower --learning-rate" in str(error.value)
    assert not (tmp_path / "model" / "manifest.json").exists()
    assert len(list((tmp_path / "model" / "checkpoints").glob("*/step-00000001/checkpoint.json"))) == 1


def test_training_learns(slices: str, tmp_path: Path) -> None:
    config = _config(
        slices, tmp_path / "model", steps=60, checkpoint_every=1000, preview_every=60, warm_up=10
    )
    _train(config)
    history = json.loads(Dataset.open(config.out).read_file("history.json"))
    assert {name: len(values) for name, values in history.items()} == {
        "loss": 60,
        "mse": 60,
        "vb": 60,
        "gradient_norm": 60,
    }
    assert np.allclose(np.add(history["mse"], history["vb"]), history["loss"])
    # Zero-initialised, the network predicts no noise: an error of 1, to begin with.
    assert history["mse"][0] == pytest.approx(1, abs=0.1)
    assert np.mean(history["loss"][-10:]) < 0.5
    picture = (tmp_path / "model" / "previews" / "step-00000060.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_what_does_not_fit_is_refused_before_training(slices: str, wide_slices: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no rows of the subsets \[7\]"):
        _train(_config(slices, tmp_path, subsets=(7,)))
    with pytest.raises(InputError, match="--patch is 32 and the images are 16 x 16"):
        _train(_config(slices, tmp_path, patch=32))
    with pytest.raises(
        InputError, match=r"no network for the images of 48 px .*attention_sizes has 16.*preprocess --size N"
    ):
        _train(_config(wide_slices, tmp_path, attention_sizes=(16,)))
    assert not (tmp_path / "checkpoints").exists()

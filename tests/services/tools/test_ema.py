"""A model of another average: its weights, what it says of itself, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from lungforge.datasets import Dataset, DatasetWriter, Kind, Parent
from lungforge.errors import InputError
from lungforge.models.average_profiles import combination, snapshot_steps
from lungforge.models.base import SamplingOptions
from lungforge.models.checkpoint import to_safetensors
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator, fold
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.model_dataset import ModelDataset, ModelDetails, read_history, write_model
from lungforge.models.snapshots import Snapshot, snapshot_name, to_half
from services.cli import main as cli
from services.tools.ema import EmaConfig, EmaResult, run

SHAPE = GauGANConfig(image_size=8, base_channels=8, channel_multipliers=(1,), latent_channels=4)
DETAILS = ModelDetails(model="gaugan", size=8, classes=6, subsets=[0], series_uids=["a"], rows=7, steps=100)
SLICES = Parent("slices", "0" * 64, Kind.SLICES)
#: Of the model and its snapshots.
WEIGHTS = SPEC.build(SHAPE, fold(Generator(SHAPE)).state_dict()).state_dict()


def _model(folder: Path, *, snapshots: bool = True) -> str:
    config = {"subsets": [0], "ema_length": 0.1, "steps": 100}
    writer = DatasetWriter(uri=str(folder), kind=Kind.MODEL, config=config, seed=3, parents=(SLICES,))
    kept = []
    for index, updates in enumerate(snapshot_steps(100) if snapshots else ()):
        for length in (0.05, 0.1):
            scaled = {key: value * (1 + index * length) for key, value in WEIGHTS.items()}
            data = to_safetensors(to_half(scaled))
            kept.append(Snapshot(length, updates, writer.write_file(snapshot_name(length, updates), data)))
    write_model(writer, SPEC, SHAPE, WEIGHTS, DETAILS, {"loss": [2.0, 1.0]}, kept)
    return writer.uri


def test_the_new_model_is_the_sum_of_the_snapshots_and_knows_where_it_comes_from(tmp_path: Path) -> None:
    source = Dataset.open(_model(tmp_path / "model"))
    result = run(EmaConfig(model=source.uri, length=0.08, out=str(tmp_path / "averaged")))
    snapshots = [
        Snapshot(length, updates, source.parts[0])
        for updates in snapshot_steps(100)
        for length in (0.05, 0.1)
    ]
    factors, error = combination(snapshots, 0.08)
    assert result == EmaResult(str(tmp_path / "averaged"), 0.08, round(error, 4))
    assert result.profile_error < 0.01
    model = ModelDataset.open(result.model)
    scale = sum(
        factor * (1 + index // 2 * snapshot.length)
        for index, (factor, snapshot) in enumerate(zip(factors, snapshots, strict=True))
    )
    for key, value in load(model.dataset.read_file("model.safetensors")).items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, WEIGHTS[key].float() * scale, rtol=5e-3, atol=1e-4), key
    assert (model.spec, model.config, model.details) == (SPEC, SHAPE, DETAILS)
    assert read_history(model.dataset) == {"loss": [2.0, 1.0]}
    manifest = model.dataset.manifest
    assert manifest.parents == (source.parent(), SLICES)
    assert manifest.config == {"subsets": [0], "ema_length": 0.08, "steps": 100}
    assert manifest.seed == 3
    sampler = model.sampler(SamplingOptions(), torch.device("cpu"), classes=6)
    assert sampler.sample(np.ones((1, 8, 8), np.uint8), [(0,)]).shape == (1, 8, 8)


def test_again_changes_nothing_and_another_length_is_refused_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = _model(tmp_path / "model"), tmp_path / "averaged"
    first = run(EmaConfig(model=source, length=0.03, out=str(out)))
    manifest = (out / "manifest.json").read_bytes()
    assert run(EmaConfig(model=source, length=0.03, out=str(out))) == first
    assert "is finished already" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"differs in ema_length \(0.03 there, 0.15 here\)"):
        run(EmaConfig(model=source, length=0.15, out=str(out)))
    assert (out / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (
            "0.08",
            "a model without snapshots of its averages; train it with `lungforge train --keep-averages`",
        ),
        ("0.3", "--length is 0.3; give a number from 0.015 to 0.2"),
        ("0.01", "--length is 0.01; give a number from 0.015 to 0.2"),
        ("nan", "--length is nan; give a number from 0.015 to 0.2"),
    ],
)
def test_what_cannot_be_made_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], length: str, message: str
) -> None:
    model = _model(tmp_path / "model", snapshots=False)
    assert cli.main(["ema", model, "--length", length, "--out", str(tmp_path / "averaged")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(message)
    assert not (tmp_path / "averaged").exists()


def test_the_command_makes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = _model(tmp_path / "model")
    out = str(tmp_path / "averaged")
    assert cli.main(["ema", model, "--length", "0.1", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": out, "length": 0.1, "profile_error": 0.0}

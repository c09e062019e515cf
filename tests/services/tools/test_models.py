"""``lungforge models``: what comes with LungForge, also where that is nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lungforge.ct.classes import BODY
from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator, fold
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.model_dataset import ModelDetails, write_model
from services.cli.main import main
from services.tools.models import ModelsConfig, PackagedMaps, PackagedModel, run
from tests.factories import slice_row


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the packaged datasets."""
    monkeypatch.setattr("lungforge.storage.packaged.FOLDER", tmp_path / "pretrained")
    return tmp_path / "pretrained"


def _model(folder: Path, name: str, patch: int | None) -> None:
    config = GauGANConfig(image_size=8, base_channels=8, channel_multipliers=(1,), latent_channels=4)
    details = ModelDetails(
        model="gaugan",
        size=8,
        classes=6,
        patch=patch,
        subsets=[0, 2],
        series_uids=["a", "b"],
        rows=7,
        steps=9,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = fold(Generator(config)).state_dict()
    writer = DatasetWriter(uri=str(folder / name), kind=Kind.MODEL, config={})
    write_model(writer, SPEC, config, weights, details)


def _maps(folder: Path, name: str, size: int) -> None:
    label = np.full((size, size), BODY, np.uint8)
    rows = [slice_row(label=label, subset=3, series_uid=f"1.{index}_z007") for index in (1, 2, 2)]
    writer = DatasetWriter(uri=str(folder / name), kind=Kind.SLICES, config={})
    writer.commit([writer.write_part("a", table_from_rows(Kind.SLICES, rows))])


def test_models_and_maps_are_listed(folder: Path) -> None:
    _model(folder, "patches-8", 8)
    _model(folder, "slices-8", None)
    _maps(folder, "maps-8", 8)
    result = run(ModelsConfig())
    assert result.models == (
        PackagedModel("lungforge://patches-8", 8, "patches", SPEC.summary, (0, 2), 2, 7, 0.2),
        PackagedModel("lungforge://slices-8", 8, "whole slices", SPEC.summary, (0, 2), 2, 7, 0.2),
    )
    assert result.maps == (PackagedMaps("lungforge://maps-8", 8, (3,), 2, 3, 0.0),)
    lines = result.text.splitlines()
    assert (
        f"  lungforge://slices-8   whole slices of 8 x 8 px; {SPEC.summary}, trained on 7 slices of 2 "
        in (result.text)
    )
    assert "(LUNA16 subsets 0 2); 0.2 MB" in lines[1]
    # Maps of the model's own size for whole slices; patches are cut from larger ones, and there are none.
    assert "  lungforge sample --model lungforge://slices-8 --data lungforge://maps-8 --out samples" in lines
    assert "  lungforge sample --model lungforge://patches-8 --data SLICES --out samples" in lines
    assert lines[-1].endswith(f"{folder}/NAME/card.md")


def test_without_a_model_that_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "No model comes with this release.\n"
    _maps(folder, "maps-8", 8)
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("No model comes with this release.\n\nLabel maps with their real slices")
    assert "Sample with" not in printed


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _maps(folder, "maps-8", 8)
    assert main(["models", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"] == []
    assert document["maps"][0]["uri"] == "lungforge://maps-8"

"""The model dataset: what is written is read back, and what is none is named."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import ContentError, InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator, fold
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.model_dataset import ModelDataset, ModelDetails, read_history, write_model

CONFIG = GauGANConfig(image_size=8, base_channels=8, channel_multipliers=(1,), latent_channels=4)
DETAILS = ModelDetails(
    model="gaugan", size=8, classes=6, subsets=[0, 1], series_uids=["a", "b"], rows=7, steps=9
)


def _written(folder: Path, history: dict[str, list[float]] | None = None) -> Dataset:
    writer = DatasetWriter(uri=str(folder), kind=Kind.MODEL, config={})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = fold(Generator(CONFIG)).state_dict()
    write_model(writer, SPEC, CONFIG, weights, DETAILS, history)
    return Dataset.open(str(folder), Kind.MODEL)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    dataset = _written(tmp_path / "model", {"loss": [2.0, 1.5]})
    model = ModelDataset.open(dataset.uri)
    assert (model.spec, model.config, model.details) == (SPEC, CONFIG, DETAILS)
    assert not {"imported_from", "final_metrics"} & set(dataset.manifest.details)
    assert read_history(dataset) == {"loss": [2.0, 1.5]}
    assert read_history(_written(tmp_path / "other")) is None
    sampler = model.sampler(SamplingOptions(), torch.device("cpu"), classes=6)
    images = sampler.sample(np.ones((2, 8, 8), np.uint8), [(0,), (1,)])
    assert (images.shape, images.dtype) == ((2, 8, 8), np.int16)
    with pytest.raises(InputError, match="the network has classes 6, the data has 7"):
        model.sampler(SamplingOptions(), torch.device("cpu"), classes=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "config.json is no JSON"),
        (b"[1]", "config.json is no JSON object"),
        (b"{}", "describes the model None; known are sdm, gaugan"),
        (b'{"network": ' + b"[" * 100_000, "config.json is no JSON .nested deeper than 32"),
        (b'{"model": "sdm", "model": "gaugan"}', "a name stands twice"),
    ],
)
def test_a_model_of_no_network_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})
    writer.commit([writer.write_file("config.json", content)])
    with pytest.raises(ContentError, match=message):
        ModelDataset.open(writer.uri)


def test_a_model_that_is_not_finite_is_neither_written_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = fold(Generator(CONFIG)).state_dict()
    weights["to_image.bias"] = torch.full_like(weights["to_image.bias"], float("nan"))
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})
    with pytest.raises(ContentError, match=r"not finite.*to_image\.bias \(1 of 1 values, such as nan\)"):
        write_model(writer, SPEC, CONFIG, weights, DETAILS)
    assert writer.find_manifest() is None
    # One that was written before, or elsewhere.
    with monkeypatch.context() as patched:
        patched.setattr("lungforge.models.checkpoint.check_values", lambda weights: None)
        write_model(writer, SPEC, CONFIG, weights, DETAILS)
    model = ModelDataset.open(writer.uri)
    with pytest.raises(ContentError, match=r"/model: .*to_image\.bias \(1 of 1 values"):
        model.sampler(SamplingOptions(), torch.device("cpu"), classes=6)


@pytest.mark.parametrize(
    "details",
    [
        {"patch": "64"},
        {"patch": -1},
        {"patch": True},
        {"size": 8.0},
        {"model": ["gaugan"]},
        {"subsets": "01"},
        {"subsets": [0.5]},
        {"series_uids": {"a": 1}},
        {"series_uids": [1]},
        {"final_metrics": [1.0]},
        {"final_metrics": {"error": "1"}},
        {"imported_from": 7},
        {"hu_ranges": [[0.0, 1.0]]},
        {"hu_ranges": [None] * 5 + [[1.0, 0.0]]},
        {"hu_ranges": [None] * 5 + [[0.0]]},
        {"hu_ranges": [None] * 5 + [["0", "1"]]},
    ],
)
def test_details_of_another_type_are_refused(tmp_path: Path, details: dict[str, Any]) -> None:
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})
    manifest = writer.commit([], details)
    (name,) = details
    with pytest.raises(ContentError, match=f"the manifest of the model says {name} "):
        ModelDetails.of(manifest)


def test_ranges_of_hounsfield_units_are_kept_and_may_be_missing(tmp_path: Path) -> None:
    ranges = [[-1000.0, -948.5], [-95.0, 58.0], None, None, None, None]
    details = dataclasses.replace(DETAILS, hu_ranges=ranges)
    assert details.to_json() == DETAILS.to_json() | {"hu_ranges": ranges}
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})
    assert ModelDetails.of(writer.commit([], details.to_json())).hu_ranges == ranges
    assert "hu_ranges" not in DETAILS.to_json()


@pytest.mark.parametrize("history", [b"[1]", b'{"loss": 1}', b'{"loss": ["a"]}', b'{"loss": [NaN]}', b"{"])
def test_a_history_of_something_else_is_refused(tmp_path: Path, history: bytes) -> None:
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})
    writer.commit([writer.write_file("history.json", history)])
    with pytest.raises(ContentError, match=r"history\.json"):
        read_history(Dataset.open(writer.uri))


def test_other_weights_of_the_same_size_are_not_loaded(tmp_path: Path) -> None:
    dataset = _written(tmp_path / "model")
    (part,) = [part for part in dataset.parts if part.name == "model.safetensors"]
    path = Path(dataset.uri) / part.path
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(ContentError, match=r"model\.safetensors: altered since .* with `lungforge train`"):
        ModelDataset.open(dataset.uri).sampler(SamplingOptions(), torch.device("cpu"), classes=6)

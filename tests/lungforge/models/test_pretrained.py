"""Pretrained models: half the size, the same images to a hair, and what they were trained on is kept."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from lungforge.datasets import DatasetWriter, Kind, Parent
from lungforge.errors import ContentError, InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator, fold
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.model_dataset import ModelDataset, ModelDetails, write_model
from lungforge.models.pretrained import HalfPrecision, half_precision, write_pretrained

CONFIG = GauGANConfig(image_size=8, base_channels=8, channel_multipliers=(1,), latent_channels=4)
DETAILS = ModelDetails(
    model="gaugan", size=8, classes=6, subsets=[0, 1], series_uids=["a", "b"], rows=7, steps=9
)


def _trained(folder: Path, details: ModelDetails = DETAILS) -> ModelDataset:
    slices = Parent(uri="/home/someone/slices", sha256="0" * 64, kind=Kind.SLICES)
    config = {"subsets": [0, 1], "steps": 9}
    writer = DatasetWriter(uri=str(folder), kind=Kind.MODEL, config=config, seed=3, parents=(slices,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = fold(Generator(CONFIG)).state_dict()
    write_model(writer, SPEC, CONFIG, weights, details, {"loss": [1.0]})
    return ModelDataset.open(str(folder))


def _sampled(model: ModelDataset) -> np.ndarray:
    sampler = model.sampler(SamplingOptions(), torch.device("cpu"), classes=6)
    return sampler.sample(np.ones((2, 8, 8), np.uint8), [(0,), (1,)])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_copy_is_in_half_precision_and_samples_alike(tmp_path: Path, dtype: HalfPrecision) -> None:
    original = _trained(tmp_path / "model")
    copy = ModelDataset.of(write_pretrained(original, str(tmp_path / "copy"), dtype))
    stored = copy.read_weights()
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {getattr(torch, dtype)}
    for name, value in original.read_weights().items():
        # Half a unit in the last of 11 or 8 digits.
        torch.testing.assert_close(
            stored[name].float(), value, rtol=2.0**-11 if dtype == "float16" else 2.0**-8, atol=1e-7
        )
    assert np.abs(_sampled(copy).astype(int) - _sampled(original)).max() <= (2 if dtype == "float16" else 15)


def test_weights_compute_in_float32(tmp_path: Path) -> None:
    copy = ModelDataset.of(write_pretrained(_trained(tmp_path / "model"), str(tmp_path / "copy"), "bfloat16"))
    network = copy.spec.build(copy.config, copy.read_weights())
    assert {value.dtype for value in network.parameters()} == {torch.float32}


def test_the_manifest_says_what_it_is_a_copy_of_and_no_place_of_the_original(tmp_path: Path) -> None:
    original = _trained(tmp_path / "model")
    copy = write_pretrained(original, str(tmp_path / "copy"), "float16")
    assert copy.manifest.config == {
        "subsets": [0, 1],
        "steps": 9,
        "original_sha256": original.dataset.manifest_sha256,
        "weights": "float16",
    }
    assert (copy.manifest.parents, copy.manifest.seed) == ((), 3)
    assert ModelDetails.of(copy.manifest) == DETAILS
    assert [part.name for part in copy.parts if part.name.endswith(".json")] == ["config.json"]
    assert b"someone" not in copy.manifest.to_bytes()


def test_the_same_model_gives_the_same_bytes_and_a_second_time_nothing(tmp_path: Path) -> None:
    original = _trained(tmp_path / "model")
    first = write_pretrained(original, str(tmp_path / "first"), "float16")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "first").rglob("*")}
    assert write_pretrained(original, str(tmp_path / "first"), "float16") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "first").rglob("*")} == before
    assert write_pretrained(original, str(tmp_path / "other"), "float16").manifest == first.manifest
    with pytest.raises(InputError, match="weights"):
        write_pretrained(original, str(tmp_path / "first"), "bfloat16")


def test_a_model_of_unknown_scans_is_refused(tmp_path: Path) -> None:
    original = _trained(tmp_path / "model", dataclasses.replace(DETAILS, series_uids=None))
    with pytest.raises(InputError, match="does not name the scans that it was trained on"):
        write_pretrained(original, str(tmp_path / "copy"), "float16")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("value", [70_000.0, 1e-8], ids=["too large", "too small"])
def test_values_beyond_the_range_of_float16_are_refused(value: float) -> None:
    weights = {"count": torch.tensor(70_000), "bias": torch.tensor([value])}
    with pytest.raises(ContentError, match="bias does not keep its values in float16"):
        half_precision(weights, "float16")
    kept = half_precision(weights, "bfloat16")
    assert kept["count"].item() == 70_000
    assert kept["bias"].item() == pytest.approx(value, rel=2.0**-8)


def test_zeros_are_kept() -> None:
    assert half_precision({"bias": torch.zeros(3)}, "float16")["bias"].tolist() == [0, 0, 0]


def test_the_file_is_half_as_large(tmp_path: Path) -> None:
    original = _trained(tmp_path / "model")
    copy = write_pretrained(original, str(tmp_path / "copy"), "float16")
    values = sum(value.numel() for value in load(copy.read_file("model.safetensors")).values())
    full = sum(value.nbytes for value in original.read_weights().values())
    assert full == pytest.approx(4 * values, rel=0.01)
    assert (
        len(copy.read_file("model.safetensors"))
        < 0.5 * len(original.dataset.read_file("model.safetensors")) + 5000
    )

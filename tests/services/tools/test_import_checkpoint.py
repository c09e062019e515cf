"""A state dict from elsewhere becomes a model that samples, or is refused with the reason."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungforge.datasets import Dataset, Kind
from lungforge.errors import ContentError, InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.model_dataset import ModelDataset
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.unet import SemanticUNet
from services.eval.lineage import trace
from services.tools.import_checkpoint import ImportConfig, ImportResult, run

SHAPE = UNetConfig(
    image_size=16,
    base_channels=32,
    channel_multipliers=(1, 2),
    residual_blocks=1,
    attention_sizes=(8,),
    head_channels=32,
)


def _file(path: Path, *, wrapped: bool = False, **changes: Any) -> str:
    """The state dict of a network of random weights, in half precision as some are released."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = SemanticUNet(dataclasses.replace(SHAPE, **changes)).state_dict()
    prefix = "module." if wrapped else ""
    torch.save({f"{prefix}{name}": value.half() for name, value in weights.items()}, path)
    return str(path)


def _config(file: str, out: Path, **changes: Any) -> ImportConfig:
    return ImportConfig(file=file, out=str(out), **{"size": 16, "head_channels": 32, **changes})


def test_an_imported_network_samples(tmp_path: Path) -> None:
    file = _file(tmp_path / "ema.pt")
    result = run(_config(file, tmp_path / "model"))
    assert result == ImportResult(
        model=str(tmp_path / "model"),
        size=16,
        classes=6,
        image_channels=1,
        base_channels=32,
        channel_multipliers=(1, 2),
        attention_sizes=(8,),
        parameters=sum(value.numel() for value in SemanticUNet(SHAPE).parameters()),
    )
    model = Dataset.open(result.model, Kind.MODEL)
    assert model.manifest.details["series_uids"] is None
    assert model.manifest.details["imported_from"] == "ema.pt"
    options = SamplingOptions(sampler="ddim", steps=2, guidance=1.5)
    sampler = ModelDataset.of(model).sampler(options, torch.device("cpu"), classes=6)
    assert sampler.sample(np.ones((1, 16, 16), np.uint8), [(0,)]).shape == (1, 16, 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_names_of_data_parallel_training_are_understood(tmp_path: Path, channels: int) -> None:
    plain = _file(tmp_path / "plain.pt", image_channels=channels)
    wrapped = _file(tmp_path / "wrapped.pt", image_channels=channels, wrapped=True)
    for file in (plain, wrapped):
        assert run(_config(file, Path(f"{file}.model"))).image_channels == channels
    weights = [Dataset.open(f"{file}.model").read_file("model.safetensors") for file in (plain, wrapped)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        ({"classes": 7}, {}, "the weights have 7 label channels, and --classes is 6; pass --classes 7"),
        ({}, {"image_channels": 3}, "the weights have 1 image channels, and --image-channels is 3"),
        ({}, {"head_channels": 48}, "--head-channels 48 does not divide"),
        ({}, {"size": 17}, "image_size 17 cannot be halved 1 times"),
    ],
)
def test_another_network_is_named(
    tmp_path: Path, made: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    file = _file(tmp_path / "other.pt", **made)
    with pytest.raises(InputError) as error:
        run(_config(file, tmp_path / "model", **asked))
    assert message in str(error.value)
    assert not (tmp_path / "model").exists()


def test_a_network_of_other_classes_is_kept_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path / "seven.pt", classes=7)
    assert run(_config(file, tmp_path / "model", classes=7)).classes == 7
    assert "has 7 classes and LungForge's maps have 6" in capsys.readouterr().err


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code of the file was run')",))


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "trap.pt"
    torch.save({"weights": _Trap()}, path)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(_Trap()))
    for file in (path, plain):
        with pytest.raises(
            InputError, match=r"holds Python objects beside tensors|is not a PyTorch checkpoint"
        ):
            run(_config(str(file), tmp_path / "model"))
    with pytest.raises(InputError, match=r"there is no file .*; give the path of a \.pt file"):
        run(_config(str(tmp_path / "none.pt"), tmp_path / "model"))


def test_the_average_in_a_checkpoint_is_taken_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    average = torch.load(_file(tmp_path / "average.pt"), weights_only=True)
    content = {
        "model": {f"_orig_mod.{name}": 2 * value for name, value in average.items()},
        "ema": {f"module.{name}": value for name, value in average.items()},
        "step": 3,
    }
    torch.save(content, tmp_path / "step3.pt")
    for file in ("average", "step3"):
        run(_config(str(tmp_path / f"{file}.pt"), tmp_path / file))
    assert capsys.readouterr().err == "took the weights under ema.module (not those of model)\n"
    weights = [
        Dataset.open(str(tmp_path / file)).read_file("model.safetensors") for file in ("average", "step3")
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2e6])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    file = _file(tmp_path / "n.pt")
    weights = {name: tensor.float() for name, tensor in torch.load(file, weights_only=True).items()}
    weights["out.2.bias"][1] = value
    torch.save(weights, file)
    with pytest.raises(ContentError, match=r"n\.pt: .* not finite.*: out\.2\.bias \(1 of 2 values, such as"):
        run(_config(file, tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_once_is_enough_and_another_file_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.pt")
    first = run(_config(file, tmp_path / "model"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").rglob("*")}
    assert run(_config(file, tmp_path / "model")) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "model").rglob("*")} == before
    other = _file(tmp_path / "b.pt", image_channels=3)
    with pytest.raises(InputError, match="imported_sha256"):
        run(_config(other, tmp_path / "model"))


def test_evaluation_knows_that_it_cannot_know_the_training_scans(tmp_path: Path) -> None:
    from lungforge.datasets import DatasetWriter

    model = Dataset.open(run(_config(_file(tmp_path / "a.pt"), tmp_path / "model")).model)
    samples = DatasetWriter(str(tmp_path / "samples"), Kind.SAMPLES, {}, parents=(model.parent(),))
    samples.commit([])
    gaps = trace(Dataset.open(samples.uri)).gaps
    assert any("its manifest names no slices that it was made from" in gap and "model" in gap for gap in gaps)

"""An evaluation with a second network, whose weights are a file, as a whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torchvision import models

from lungforge.datasets import Dataset, Kind, rows_from_table
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.torchvision_extractor import torchvision_extractor
from services.eval.config import EvalConfig

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    path.write_bytes(save(models.resnet18(weights=None).state_dict(), metadata={"architecture": "resnet18"}))
    return path


@pytest.fixture(scope="module")
def config(world, weights):
    return EvalConfig(
        real=str(world / "slices"),
        synthetic=(str(world / "drawn"),),
        out=str(world / "second-report"),
        subsets=(3,),
        second_extractor=str(weights),
    )


def _images(uri: Path, kind: Kind, subset: int | None = None) -> np.ndarray:
    dataset = Dataset.open(str(uri), kind)
    rows = [row for part in dataset.parts for row in rows_from_table(dataset.read_part(part))]
    return np.stack([row["image"] for row in rows if subset is None or row["subset"] == subset])


def test_its_distances_stand_beside_the_headlines(world, weights, result, report) -> None:
    (results,) = report.sets
    extractor = torchvision_extractor(weights.read_bytes())
    assert report.extractor.name == "efficientnet-lite0"
    assert report.second_extractor == extractor.description
    features = [
        extractor.embed(_images(world / "slices", Kind.SLICES, 3)),
        extractor.embed(_images(world / "drawn", Kind.SAMPLES)),
    ]
    assert results.second.frechet.value == pytest.approx(frechet_distance_of_features(*features), rel=1e-4)
    assert results.second.frechet.name == extractor.description.distance_name
    assert results.second.kid.name == "KID (resnet18)"
    assert results.second.frechet.value != results.frechet.value
    page = Path(result.report).read_text(encoding="utf-8")
    for name in (extractor.description.distance_name, "KID (resnet18)", extractor.description.weights_sha256):
        assert name in page
    assert report.config["second_extractor"] == extractor.description.weights_sha256
    assert f"--second-extractor {weights}" in report.command

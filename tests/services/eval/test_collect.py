import dataclasses

import numpy as np
import pytest

from lungforge.datasets import Dataset
from lungforge.metrics.features import load_extractor
from services.eval.collect import network_of, read_real
from services.eval.config import EvalConfig
from services.eval.feature_cache import Network
from services.eval.lineage import trace

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def description():
    return load_extractor("efficientnet-lite0").description


@pytest.fixture
def read(ray_local, world, description):
    """``read(samples, subsets)`` gives the real slices of an evaluation, and the origin of the samples."""

    def read(samples, subsets):
        config = EvalConfig(real=str(world / "slices"), synthetic=(samples.uri,), out="none", subsets=subsets)
        origin = trace(samples)
        network = network_of(config, description)
        return read_real(config, network, Dataset.open(config.real), [origin], None), origin

    return read


def test_training_slices_are_those_of_the_subsets_that_the_model_saw(read, world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, subsets=(0, 2))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(1,))
    real, origin = read(samples, (3,))
    features, keys = real.training(origin)
    assert {series for series, _ in keys} == {f"scan-{scan:02}" for scan in (0, 2, 4, 6, 8, 10)}
    assert features.shape == (12, 1280)
    assert set(real.compared.scans) == {"scan-03", "scan-07", "scan-11"}
    # Slices that are only a source of maps are at hand for near-duplicates, and not embedded.
    assert len(real.pool.keys) == 24
    assert sum(len(part.rows) for _, part in real.parts) == 12 + 6
    for part in (part for _, part in real.parts if len(part.rows)):
        for key, vector in zip([part.keys[row] for row in part.rows], part.features, strict=True):
            if key in keys:
                np.testing.assert_array_equal(features[keys.index(key)], vector)


def test_of_patches_no_training_slice_is_embedded(read, world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, patch=64)
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"])
    real, _ = read(samples, (3,))
    assert sum(len(part.rows) for _, part in real.parts) == 6


def test_the_cache_and_the_weights_reach_the_tasks(description):
    config = EvalConfig(real="a", synthetic=("b",), out="c", features="s3://lab/features")
    assert network_of(config, description) == Network(description, None, "s3://lab/features")
    given = dataclasses.replace(config, extractor="inception-v3", weights="w.pth", features=None)
    assert network_of(given, description) == Network(description, "w.pth", None)

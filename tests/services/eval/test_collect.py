import dataclasses

import numpy as np
import pytest
import ray

from lungforge.datasets import Dataset, Part
from lungforge.metrics.features import load_extractor
from services.eval import collect
from services.eval.collect import read_real, read_synthetic
from services.eval.config import EvalConfig
from services.eval.feature_cache import Network
from services.eval.lineage import trace
from services.eval.records import RealPool

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def description():
    return load_extractor("efficientnet-lite0").description


@pytest.fixture
def read(ray_local, world, description):
    """``read(samples, subsets)`` gives the real slices of an evaluation, and the lineage of the samples."""

    def read(samples, subsets):
        config = EvalConfig(real=str(world / "slices"), synthetic=(samples.uri,), out="none", subsets=subsets)
        lineage = trace(samples)
        network = Network(description)
        return read_real(config, network, Dataset.open(config.real), [lineage], None), lineage

    return read


def test_training_slices_are_those_of_the_subsets_that_the_model_saw(read, world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, subsets=(0, 2))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(1,))
    real, lineage = read(samples, (3,))
    features, keys = real.training(lineage)
    assert {series for series, _ in keys} == {f"scan-{scan:02}" for scan in (0, 2, 4, 6, 8, 10)}
    assert features.shape == (12, 1280)
    assert set(real.compared.scans) == {"scan-03", "scan-07", "scan-11"}
    # Slices that are only a source of maps are searched for near-duplicates, and not embedded.
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


class StartedError(Exception):
    """In place of the first task."""


def _with_parts(dataset, count):
    """The dataset as if it had so many parts."""
    parts = tuple(
        Part(path=f"parts/{index:06}.parquet", rows=8, bytes=1, sha256=f"{index:064x}")
        for index in range(count)
    )
    return dataclasses.replace(dataset, manifest=dataclasses.replace(dataset.manifest, parts=parts))


@pytest.mark.parametrize("kind", ["real", "synthetic"])
def test_the_arguments_of_a_task_do_not_grow_with_the_parts_of_the_dataset(
    ray_local, world, description, monkeypatch, kind
):
    slices, samples = Dataset.open(str(world / "slices")), Dataset.open(str(world / "drawn"))
    config = EvalConfig(real=slices.uri, synthetic=(samples.uri,), out="none", subsets=(3,))
    network = Network(description)
    lineage = dataclasses.replace(trace(samples), sources=(), training=())

    def start(parts):
        if kind == "real":
            read_real(config, network, _with_parts(slices, parts), [lineage], None)
        else:
            many = dataclasses.replace(lineage, samples=_with_parts(samples, parts))
            read_synthetic(config, network, "drawn", many, _pool())

    def pickled_size(parts):
        """Of the arguments of the last task."""
        given = []

        def run(title, task, work, workers):
            given.extend(work)
            raise StartedError

        monkeypatch.setattr(collect, "run_in_order", run)
        with pytest.raises(StartedError):
            start(parts)
        assert len(given) == parts
        return len(ray.cloudpickle.dumps(given[-1]))

    few, many = pickled_size(10), pickled_size(20_000)
    assert many < few + 50
    assert many < 2_000


def _pool():
    """A pool of one slice, whose image is in the object store."""
    image = ray.put(np.zeros((1, 2, 64, 64), np.uint8))
    return RealPool(
        keys=(("scan-00", 0),),
        patients=np.zeros(1, np.int64),
        thumbnails=np.zeros((1, 1024), np.float32),
        rows=np.zeros((1, 2), np.int64),
        cut=None,
        images=(image,),
        cells=(),
    )

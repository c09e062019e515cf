"""What is measured on the training images before training starts."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.datasets.slices import index_rows
from lungforge.metrics.hu_gate import HuRanges
from services.train.presets import tiny
from services.train.run import TrainingRun, measured_images, prepare
from tests.services.train.conftest import draw_slices


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty slices of 32 px."""
    uri = str(tmp_path_factory.mktemp("run") / "many")
    return draw_slices(uri, scans=5, slices=12, side=32)


def _prepare(data: str, **changes: Any) -> TrainingRun:
    dataset = Dataset.open(data)
    config = dataclasses.replace(tiny(data, "model", "gaugan"), **changes)
    writer = DatasetWriter(uri="model", kind=Kind.MODEL, config={}, parents=(dataset.parent(),))
    return prepare(config, dataset, writer)


def test_the_range_of_hounsfield_units_is_that_of_the_training_images(many: str) -> None:
    rows = index_rows(Dataset.open(many)).read(range(60))
    ranges = _prepare(many).details().hu_ranges
    assert ranges is not None
    for each in (0, 1, 2, 3):
        medians = [np.median(np.clip(row.image, -1000, 400)[row.label == each]) for row in rows]
        assert ranges[each] == pytest.approx(np.quantile(medians, [0.005, 0.995]), abs=0.005)
    assert ranges[4:] == [None, None], "no trachea, and nodules of 4 px"


def test_only_the_slices_that_are_trained_on_are_measured(many: str) -> None:
    assert _prepare(many, subsets=(0, 1, 2)).details().hu_ranges is None, "36 slices are too few"
    four = index_rows(Dataset.open(many), (0, 1, 2, 3))
    rows = four.read(range(48))
    expected = HuRanges.measure(np.stack([row.image for row in rows]), np.stack([row.label for row in rows]))
    assert expected is not None
    assert _prepare(many, subsets=(0, 1, 2, 3)).hu_ranges == expected != _prepare(many).hu_ranges


def test_a_model_of_patches_has_the_range_of_patches(many: str) -> None:
    run = _prepare(many, patch=16)
    images = measured_images(run.index, run.config)
    assert {image.image.shape for image in images} == {(16, 16)}
    expected = HuRanges.measure(
        np.stack([image.image for image in images]), np.stack([image.label for image in images])
    )
    assert run.hu_ranges == expected != _prepare(many).hu_ranges

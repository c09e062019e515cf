"""Slices and a model that are small, for the tests of the Python API."""

import dataclasses

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.slices import SliceRow, index_rows
from tests.factories import nodule_at, sample_row, slice_row
from tests.services.sample.conftest import gaugan, make_model, write_mixed_slices

__all__ = ["gaugan"]


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three scans, of the subsets 0 to 2, of four slices each; every second slice shows a nodule."""
    return write_mixed_slices(str(tmp_path_factory.mktemp("api") / "slices"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A diffusion model of random weights, of the size of the slices."""
    return make_model(str(tmp_path_factory.mktemp("api") / "model"))


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two samples, of the maps of slices 7 and 8 of a scan."""
    uri = str(tmp_path_factory.mktemp("api") / "samples")
    rows = [
        sample_row(
            slice_row(
                series_uid="scan-9",
                slice_index=index,
                subset=4,
                image=np.full((16, 16), index, np.int16),
                nodules=[nodule_at(3, 4, 5, 6)] * (index - 7),
            ),
            sample_id=f"sample-{index}",
        )
        for index in (7, 8)
    ]
    writer = DatasetWriter(uri, Kind.SAMPLES, {})
    writer.commit([writer.write_part("a", table_from_rows(Kind.SAMPLES, rows))])
    return uri


@pytest.fixture
def expected(slices: str) -> list[SliceRow]:
    """All rows of the slices, as the dataset gives them."""
    index = index_rows(Dataset.open(slices))
    return index.read(range(len(index)))


def equal(one: SliceRow, other: SliceRow) -> bool:
    """Whether two slices are the same, in every field."""
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(SliceRow)
    )

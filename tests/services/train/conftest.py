"""Synthetic slices, small and all different, for runs of a second or two."""

from pathlib import Path

import numpy as np
import pytest

from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from tests.factories import nodule_at, slice_row

SIDE = 16


def draw_slices(uri: str, *, scans: int = 5, slices: int = 4, side: int = SIDE) -> str:
    """Write a slices dataset: a body with two lungs, and a nodule in each second slice."""
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={"scans": scans, "slices": slices, "side": side})
    generator = np.random.default_rng(0)
    parts = []
    for scan in range(scans):
        rows = []
        for index in range(slices):
            label = np.zeros((side, side), np.uint8)
            label[1:-1, 1:-1] = 1
            label[3:-3, 2 : side // 2 - 1] = 3
            label[3:-3, side // 2 + 1 : -2] = 2
            nodules = []
            if index % 2:
                x, y = generator.integers(3, side // 2 - 2), generator.integers(4, side - 4)
                label[y : y + 2, x : x + 2] = 5
                nodules = [nodule_at(x + 0.5, y + 0.5, 2.0, 4.0)]
            grey = np.array([-1000, 40, -850, -820, -1000, 30])[label]
            rows.append(
                slice_row(
                    series_uid=f"scan-{scan}",
                    subset=scan,
                    slice_index=index,
                    z_mm=2.0 * index,
                    spacing_mm=[2.0, 2.0],
                    image=(grey + generator.normal(0, 20, label.shape)).astype(np.int16),
                    label=label,
                    nodules=nodules,
                )
            )
        parts.append(writer.write_part(f"scan-{scan}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)
    return uri


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twenty slices of five scans, one scan per subset."""
    return draw_slices(str(tmp_path_factory.mktemp("train") / "slices"))


@pytest.fixture
def one_thread():
    """As a worker of one CPU computes: sums in another order differ in their last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def wide_slices(tmp_path: Path) -> str:
    """Slices of 48 px: no network of the tests' configuration has that side after patches of 16."""
    return draw_slices(str(tmp_path / "wide"), scans=2, slices=2, side=48)

"""Rows that are easy to check by hand, and datasets of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from tests.factories import crop_row, nodule_at, sample_row, slice_row

#: Not square, and of two spacings, so that rows and columns cannot be taken for one another.
HEIGHT, WIDTH = 40, 48
SPACING_MM = [2.0, 0.75]
#: HU in the map's classes background, body, left and right lung, trachea, nodule.
LEVELS = np.array([-1000, 40, -850, -840, -1000, 60], np.int16)
MODEL_SHA256 = "ab" * 32


class Build:
    """What tests make their rows and datasets with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def slice(index: int = 3, *, healthy: bool = False, uid: str = "1.2.3") -> dict[str, Any]:
        """A slice with lungs, and with a nodule of 2 columns and 3 rows unless it is healthy."""
        label = np.full((HEIGHT, WIDTH), BODY, np.uint8)
        label[4:36, 4:20] = RIGHT_LUNG
        label[4:36, 28:44] = LEFT_LUNG
        if not healthy:
            label[10:13, 6:8] = NODULE
        return slice_row(
            series_uid=uid,
            slice_index=index,
            z_mm=-10.0,
            spacing_mm=SPACING_MM,
            image=LEVELS[label] + np.int16(index),
            label=label,
            nodules=[] if healthy else [nodule_at(6.5, 11.0, 3.0)],
        )

    @classmethod
    def sample(
        cls, sample_id: str = "0123abcd", *, edit: str = "none", healthy: bool = False
    ) -> dict[str, Any]:
        """A sample that looks like the slice."""
        source = cls.slice(healthy=healthy)
        return sample_row(source, sample_id=sample_id, edit=edit, steps=10, model_sha256=MODEL_SHA256)

    @staticmethod
    def crop(x: float = 40.2, y: float = 9.0, *, label: int = 1, hu: int = 0) -> dict[str, Any]:
        """A crop around a candidate."""
        return crop_row(slice_index=7, x=x, y=y, label=label, image=np.full((32, 32), hu, np.int16))

    def dataset(self, kind: Kind, *parts: list[dict[str, Any]], name: str = "data", **writer: Any) -> Dataset:
        """A dataset with a part for each list of rows."""
        made = DatasetWriter(str(self.folder / name), kind, writer.pop("config", {"a": 1}), **writer)
        made.commit([made.write_part(str(n), table_from_rows(kind, rows)) for n, rows in enumerate(parts)])
        return Dataset.open(str(self.folder / name))

    @staticmethod
    def tree(folder: Path) -> dict[str, bytes]:
        """Every file below a folder: path within it to content."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


@pytest.fixture
def samples(build: Build) -> str:
    """The URI of seven samples in two parts, three of them healthy."""
    rows = [build.sample(f"{number:02x}", healthy=number % 3 == 0) for number in range(7)]
    return build.dataset(Kind.SAMPLES, rows[:4], rows[4:], name="samples").uri

"""A format from outside: a class and a line in the table."""

import sys
import types
from pathlib import Path

import pytest

from services.export import formats
from services.export.config import ExportConfig
from services.export.formats.base import ExportFormat, Files
from services.export.job import run
from services.export.rows import Item


class Means(ExportFormat):
    """The mean HU of every slice, in a text of its own, and of all."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.means: list[float] = []

    def encode(self, item: Item) -> Files:
        return {f"{item.name}_mean.txt": f"{item.row['image'].mean():.1f}\n".encode()}

    def add(self, item: Item, paths) -> None:
        self.means.append(float(item.row["image"].mean()))

    def finish(self) -> Files:
        return {"mean.txt": f"{sum(self.means) / len(self.means):.1f}\n".encode()}


def test_a_registered_format_is_one_of_the_choices_and_resumes_like_the_others(
    samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("toy_format")
    module.Means = Means  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_format", module)
    monkeypatch.setitem(formats.FORMATS, "means", "toy_format:Means")
    config = ExportConfig(data=(samples,), out=str(tmp_path / "out"), format="means")
    assert run(config).files == {"mean": 7}
    means = [float(path.read_text(encoding="utf-8")) for path in (tmp_path / "out").glob("*_mean.txt")]
    assert float((tmp_path / "out" / "mean.txt").read_text(encoding="utf-8")) == pytest.approx(
        sum(means) / 7, abs=0.1
    )
    assert not run(config).written

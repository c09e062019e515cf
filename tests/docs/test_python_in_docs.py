"""The Python that the pages show opens datasets and exports with other programs, and gets what is in them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from tests.factories import crop_row, nodule_at, slice_row

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "datasets.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _image(index: int) -> Any:
    return (np.arange(16 * 24) + index).reshape(16, 24).astype(np.int16)


def test_other_programs_read_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        slice_row(slice_index=index, image=_image(index), nodules=[nodule_at(3, 4, 5)] * index)
        for index in range(5)
    ]
    slices = DatasetWriter("slices", Kind.SLICES, {"size": 16})
    units = {"a": rows[:3], "b": rows[3:]}
    slices.commit(
        [slices.write_part(unit, table_from_rows(Kind.SLICES, some)) for unit, some in units.items()]
    )
    crops = DatasetWriter("slices/crops", Kind.CROPS, {"size": 16})
    crops.commit([crops.write_part("a", table_from_rows(Kind.CROPS, [crop_row()]))])
    manifest = json.loads(Path("slices/manifest.json").read_bytes())

    counts, names = [], {}
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        exec(compile(block, PAGE.name, "exec"), names)
        counts.append(len(names["rows"]))

    assert counts == [5, 5, 5]
    assert [f"slices/{part['path']}" for part in manifest["parts"]] == names["parts"]
    np.testing.assert_array_equal(names["images"], np.stack([_image(index) for index in range(5)]))
    np.testing.assert_array_equal(names["first"], _image(0))
    assert names["labels"].shape == (5, 16, 24)


def test_candidates_are_scored_from_python() -> None:
    (block,) = BLOCK.findall((DOCS / "reference" / "score-candidates.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(compile(block, "score-candidates.md", "exec"), names)
    assert names["score"].cpm == 1.0

"""The Python that the pages show opens datasets and exports with other programs, and gets what is in them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungforge.ct.classes import LEFT_LUNG, NODULE
from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from services.cli.commands import execute
from tests.factories import crop_row, nodule_at, sample_row, slice_row

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
    # What else such a folder may hold.
    for name in ("config.toml", "card.md", ".lungforge-probe-1"):
        Path("slices", name).write_text("no rows\n", encoding="utf-8")

    counts, names = [], {}
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        exec(compile(block, PAGE.name, "exec"), names)
        counts.append(len(names["rows"]))

    # pandas, polars, DuckDB, pyarrow; a folder, columns of pandas, images, by the manifest.
    assert counts == [5] * 8
    wanted = np.stack([_image(index) for index in range(5)])
    assert [f"slices/{part['path']}" for part in manifest["parts"]] == names["parts"]
    np.testing.assert_array_equal(names["images"], wanted)
    np.testing.assert_array_equal(names["first"], wanted[0])
    for program in ("polars", "duckdb"):
        np.testing.assert_array_equal(names[f"from_{program}"], wanted[:2])
    assert names["labels"].shape == (5, 16, 24)
    assert names["per_subset"]["nodules"].tolist() == [10]
    assert names["nodules"].height == 10
    assert names["nodules"]["x"].to_list() == [3.0] * 10


def test_exports_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of docs/reference/export.md, on what the commands of the page write."""
    monkeypatch.chdir(tmp_path)
    label = np.full((40, 48), LEFT_LUNG, np.uint8)
    label[10:13, 6:8] = NODULE
    row = slice_row(
        image=np.full((40, 48), 7, np.int16),
        label=label,
        nodules=[nodule_at(6.5, 11, 3)],
        spacing_mm=[2.0, 0.5],
        z_mm=-9.0,
    )
    for kind, one in ((Kind.SLICES, row), (Kind.SAMPLES, sample_row(row))):
        writer = DatasetWriter(kind.value, kind, {})
        writer.commit([writer.write_part("0", table_from_rows(kind, [one]))])
    page = (DOCS / "reference" / "export.md").read_text(encoding="utf-8")
    wanted = ("--out detector-coco ", "--out slices-nifti ", "--out samples-dicom ")
    commands = [line for line in page.splitlines() if any(out in line for out in wanted)]
    assert len(commands) == 3
    for command in commands:
        execute("export", command.split()[2:])
    names: dict[str, Any] = {}
    for block in BLOCK.findall(page):
        exec(compile(block, "export.md", "exec"), names)
    np.testing.assert_array_equal(names["mask"], label == NODULE)
    np.testing.assert_allclose([names[side] for side in ("right", "anterior", "superior")], [-10, -60, -9])
    assert (names["values"] == 7).all()


def test_candidates_are_scored_from_python() -> None:
    (block,) = BLOCK.findall((DOCS / "reference" / "score-candidates.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(compile(block, "score-candidates.md", "exec"), names)
    assert names["score"].cpm == 1.0

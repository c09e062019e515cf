"""A slice that is stored turned by 180 degrees is exported like the same slice stored upright."""

import csv
from pathlib import Path

import numpy as np
import pytest

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.formats import FORMATS
from services.export.formats.base import make_format
from services.export.job import run
from services.export.rows import make_item

HEIGHT, WIDTH = 40, 48


def turned(row):
    label = row["label"].copy()
    nodules = [
        nodule | {"x": WIDTH - 1 - nodule["x"], "y": HEIGHT - 1 - nodule["y"]} for nodule in row["nodules"]
    ]
    return row | {
        "image": np.ascontiguousarray(row["image"][::-1, ::-1]),
        "label": np.ascontiguousarray(label[::-1, ::-1]),
        "nodules": nodules,
    }


# The others say in their files that they were turned.
@pytest.mark.parametrize(
    "format_", [name for name in FORMATS if name not in ("png", "coco", "yolo", "imagefolder", "metaimage")]
)
def test_the_files_are_those_of_the_upright_slice(build, format_: str) -> None:
    row = build.slice()
    dataset = build.dataset(Kind.SLICES, [row])
    made = make_format(ExportConfig(data=("-",), out="-", format=format_))
    assert made.encode(make_item("n", turned(row), dataset)) == made.encode(make_item("n", row, dataset))


def test_pictures_and_boxes_are_upright_and_the_table_says_that_they_were_turned(
    build, tmp_path: Path
) -> None:
    from PIL import Image
    from pycocotools.coco import COCO

    row = build.slice()
    row["image"][0, 0] = 400
    stored = turned(row) | {"slice_index": 4}
    data = (build.dataset(Kind.SLICES, [row, stored]).uri,)
    run(ExportConfig(data=data, out=str(tmp_path / "out"), format="coco"))
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert coco.anns[1]["bbox"] == coco.anns[2]["bbox"] == [6.0, 10.0, 2.0, 3.0]
    np.testing.assert_array_equal(coco.annToMask(coco.anns[1]), coco.annToMask(coco.anns[2]))
    with (
        Image.open(tmp_path / "out" / "real_1.2.3_z0003_ct.png") as one,
        Image.open(tmp_path / "out" / "real_1.2.3_z0004_ct.png") as other,
    ):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert "Turned" not in one.text  # type: ignore[attr-defined]
        assert other.text["Turned"].startswith("by 180 degrees")  # type: ignore[attr-defined]
    with (tmp_path / "out" / "files.csv").open(encoding="utf-8", newline="") as file:
        assert [line["turned"] for line in csv.DictReader(file)] == ["false", "true"]

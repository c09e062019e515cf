"""The folders that Ultralytics' YOLO reads: an image, its text, and ``data.yaml``."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.job import run


def read_boxes(text: Path, width: int, height: int) -> np.ndarray:
    """Left, top, width and height in px, from the lines of shares."""
    values = np.loadtxt(text, ndmin=2)
    assert (values[:, 0] == 0).all()
    x, y, box_width, box_height = (values[:, 1:] * [width, height, width, height]).T
    return np.stack([x - box_width / 2, y - box_height / 2, box_width, box_height], axis=1)


def test_the_boxes_are_those_of_coco(build, tmp_path: Path) -> None:
    two = build.slice(4)
    two["label"][20:30, 30:34] = 5
    two["nodules"].append({"x": 31.5, "y": 24.5, "diameter_px": 10.0, "diameter_mm": 10.0})
    data = (build.dataset(Kind.SLICES, [build.slice(3)], [two]).uri,)
    assert run(ExportConfig(data=data, out=str(tmp_path / "yolo"), format="yolo")).boxes == 3
    run(ExportConfig(data=data, out=str(tmp_path / "coco"), format="coco"))
    coco = COCO(str(tmp_path / "coco" / "annotations.json"))
    for image in coco.imgs.values():
        name = image["file_name"].removesuffix("_ct.png")
        boxes = read_boxes(tmp_path / "yolo/labels/train" / f"{name}.txt", 48, 40)
        wanted = [annotation["bbox"] for annotation in coco.imgToAnns[image["id"]]]
        np.testing.assert_allclose(boxes, wanted, atol=1e-6)
        with (
            Image.open(tmp_path / "yolo/images/train" / f"{name}.png") as one,
            Image.open(tmp_path / "coco" / image["file_name"]) as other,
        ):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_yaml_names_folders_that_are_there_and_every_image_has_its_text(
    build, tmp_path: Path, share: float
) -> None:
    rows = [build.slice(healthy=index % 2 == 0, uid=f"1.2.{index}") for index in range(12)]
    data = (build.dataset(Kind.SLICES, rows).uri,)
    out = tmp_path / "out"
    run(ExportConfig(data=data, out=str(out), format="yolo", validation_share=share))
    document = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
    assert "path" not in document, "then the folder of data.yaml is the root"
    assert document["names"] == {0: "nodule"}
    assert (document["train"], document["val"]) == ("images/train", "images/val" if share else "images/train")
    counts = {}
    for side in {"train", document["val"].rsplit("/", 1)[-1]}:
        images = sorted(path.stem for path in (out / "images" / side).iterdir())
        assert images == sorted(path.stem for path in (out / "labels" / side).iterdir())
        counts[side] = len(images)
    assert sum(counts.values()) == 12
    assert all(counts.values())
    assert sum(path.stat().st_size == 0 for path in out.glob("labels/*/*.txt")) == 6, "of healthy slices"

"""What ``lungforge export`` writes: values, names, boxes, provenance."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE
from lungforge.errors import InputError
from lungforge.store import DatasetWriter, Kind, Parent, table_from_rows
from services.export import ExportConfig, nodule_boxes, run

SIZE = 16


def _slice(index: int = 3) -> dict[str, Any]:
    image = np.full((SIZE, SIZE), -1000, np.int16)
    image[0, :4] = (-2000, -1000, -300, 400)
    image[1, 0] = 3000
    label = np.full((SIZE, SIZE), BODY, np.uint8)
    label[4:12, 4:12] = LEFT_LUNG
    label[5:8, 6:8] = NODULE
    return {
        "series_uid": "1.2.3",
        "subset": 0,
        "slice_index": index,
        "z_mm": -10.0,
        "spacing_mm": [2.0, 2.0],
        "image": image,
        "label": label,
        "nodules": [{"x": 6.5, "y": 6.0, "diameter_px": 3.0, "diameter_mm": 6.0}],
    }


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("subset", "spacing_mm", "image", "label", "nodules")}
    return kept | {
        "sample_id": "0123abcd",
        "source_series_uid": row["series_uid"],
        "source_slice_index": row["slice_index"],
        "replicate": 0,
        "seed": 0,
        "edit": "none",
        "sampler": "ancestral",
        "steps": 10,
        "guidance": 1.5,
        "model_sha256": "0" * 64,
    }


def _dataset(folder: Path, kind: Kind, rows: list[dict[str, Any]], parents: tuple[Parent, ...] = ()) -> str:
    writer = DatasetWriter(str(folder), kind, {"a": 1}, parents=parents)
    writer.commit([writer.write_part("0", table_from_rows(kind, rows))])
    return str(folder)


def _read(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def test_slices_as_coco(tmp_path: Path) -> None:
    data = _dataset(tmp_path / "slices", Kind.SLICES, [_slice(3), _slice(4)])
    result = run(ExportConfig(data=data, out=str(tmp_path / "out"), format="coco"))
    assert (result.pictures, result.boxes) == (2, 2)
    grey = np.asarray(_read(tmp_path / "out" / "real_1.2.3_z0003_ct.png"))
    # The window of -1000 to 400 HU on 0 to 255; -300 HU is half way, what is outside is clipped.
    assert grey[0, :4].tolist() == [0, 0, 128, 255]
    assert grey[1, 0] == 255
    classes = np.asarray(_read(tmp_path / "out" / "real_1.2.3_z0003_map.png"))
    np.testing.assert_array_equal(classes, _slice()["label"])
    coco = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [picture["file_name"] for picture in coco["images"]] == [
        "real_1.2.3_z0003_ct.png",
        "real_1.2.3_z0004_ct.png",
    ]
    assert coco["annotations"][1] == {
        "id": 2,
        "image_id": 2,
        "category_id": 1,
        "bbox": [6.0, 5.0, 2.0, 3.0],
        "area": 6.0,
        "iscrowd": 0,
    }


def test_coco_is_read_by_its_own_library(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    data = _dataset(tmp_path / "slices", Kind.SLICES, [_slice()])
    run(ExportConfig(data=data, out=str(tmp_path / "out"), format="coco"))
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert coco.loadCats(coco.getCatIds())[0]["name"] == "nodule"
    assert len(coco.getAnnIds(imgIds=coco.getImgIds())) == 1


def test_synthetic_pictures_say_so(tmp_path: Path) -> None:
    source = Parent(uri="s3://lab/slices", sha256="f" * 64, kind=Kind.SLICES)
    data = _dataset(tmp_path / "samples", Kind.SAMPLES, [_sample(_slice())], parents=(source,))
    run(ExportConfig(data=data, out=str(tmp_path / "out")))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"synthetic_0123abcd_ct.png", "synthetic_0123abcd_map.png", "provenance.json"}
    text = _read(tmp_path / "out" / "synthetic_0123abcd_ct.png").text  # type: ignore[attr-defined]
    assert text["Description"] == "synthetic CT slice"
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["synthetic"] is True
    assert provenance["made_from"] == [{"uri": "s3://lab/slices", "sha256": "f" * 64, "kind": "slices"}]


def test_crops_are_sorted_into_classes(tmp_path: Path) -> None:
    crop = {
        "series_uid": "1.2.3",
        "subset": 0,
        "slice_index": 7,
        "x": 40.2,
        "y": 9.0,
        "label": 1,
        "image": np.zeros((32, 32), np.int16),
    }
    data = _dataset(tmp_path / "crops", Kind.CROPS, [crop, crop | {"label": 0, "x": 50.0}])
    run(ExportConfig(data=data, out=str(tmp_path / "out")))
    pictures = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert pictures == ["no_nodule/real_1.2.3_z0007_x50_y9_ct.png", "nodule/real_1.2.3_z0007_x40_y9_ct.png"]
    with pytest.raises(InputError, match="--format png"):
        run(ExportConfig(data=data, out=str(tmp_path / "out"), format="coco"))


def test_a_dataset_without_pictures_is_refused(tmp_path: Path) -> None:
    writer = DatasetWriter(str(tmp_path / "model"), Kind.MODEL, {})
    writer.commit([writer.write_file("config.json", b"{}")])
    with pytest.raises(InputError, match="is a model dataset; export takes slices, samples or crops"):
        run(ExportConfig(data=str(tmp_path / "model"), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_two_nodules_that_touch_have_a_box_each() -> None:
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[4:8, 2:10] = NODULE
    nodules = [
        {"x": 3.5, "y": 5.5, "diameter_px": 4.0, "diameter_mm": 4.0},
        {"x": 7.5, "y": 5.5, "diameter_px": 4.0, "diameter_mm": 4.0},
    ]
    assert nodule_boxes(label, nodules) == [(2.0, 4.0, 4.0, 4.0), (6.0, 4.0, 4.0, 4.0)]


def test_a_nodule_without_a_pixel_has_the_box_of_its_circle() -> None:
    nodule = {"x": 1.0, "y": 8.0, "diameter_px": 4.0, "diameter_mm": 4.0}
    assert nodule_boxes(np.zeros((SIZE, SIZE), np.uint8), [nodule]) == [(0.0, 6.5, 3.5, 4.0)]


@given(
    rows=st.integers(0, SIZE - 1),
    columns=st.integers(0, SIZE - 1),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_the_box_of_a_rectangle_is_the_rectangle(rows: int, columns: int, height: int, width: int) -> None:
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[rows : rows + height, columns : columns + width] = NODULE
    bottom, right = min(rows + height, SIZE), min(columns + width, SIZE)
    centre = {
        "x": (columns + right - 1) / 2,
        "y": (rows + bottom - 1) / 2,
        "diameter_px": 1.0,
        "diameter_mm": 1.0,
    }
    assert nodule_boxes(label, [centre]) == [(columns, rows, right - columns, bottom - rows)]

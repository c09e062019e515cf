"""The annotations, read with pycocotools and torchvision."""

import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection

from lungforge.ct.classes import NODULE
from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.job import run
from tests.factories import nodule_at


def test_coco_reads_pictures_boxes_areas_and_the_category(build, tmp_path: Path) -> None:
    two = build.slice(4)
    two["label"][20:30, 30:34] = 5
    two["nodules"].append({"x": 31.5, "y": 24.5, "diameter_px": 10.0, "diameter_mm": 10.0})
    dataset = build.dataset(Kind.SLICES, [build.slice(3), build.slice(9, healthy=True)], [two])
    result = run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="coco"))
    assert (result.files, result.boxes) == ({"ct": 3}, 3)
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "nodule", "supercategory": "lesion"}]
    assert coco.loadImgs([1, 2, 3]) == [
        {
            "id": number,
            "file_name": f"real_1.2.3_z{index:04}_ct.png",
            "height": 40,
            "width": 48,
            "synthetic": False,
            "series_uid": "1.2.3",
            "slice_index": index,
            "spacing_mm": [2.0, 0.75],
        }
        for number, index in ((1, 3), (2, 9), (3, 4))
    ]
    assert [len(coco.getAnnIds(imgIds=[number])) for number in (1, 2, 3)] == [1, 0, 2]
    annotation = coco.anns[3]
    assert annotation.pop("segmentation")["size"] == [40, 48]
    assert annotation == {
        "id": 3,
        "image_id": 3,
        "category_id": 1,
        "bbox": [30.0, 20.0, 4.0, 10.0],
        "area": 40.0,
        "iscrowd": 0,
        "diameter_mm": 10.0,
    }
    assert coco.getAnnIds(areaRng=[5, 7]) == [1, 2], "2 columns times 3 rows"


def test_perfect_detections_have_an_average_precision_of_one(build, tmp_path: Path) -> None:
    from pycocotools.cocoeval import COCOeval

    dataset = build.dataset(Kind.SAMPLES, [build.sample("a"), build.sample("b")])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="coco"))
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    detections = coco.loadRes(
        [
            {"image_id": box["image_id"], "category_id": 1, "bbox": box["bbox"], "score": 0.9}
            for box in coco.anns.values()
        ]
    )
    evaluation = COCOeval(coco, detections, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1


def test_the_masks_are_the_nodule_pixels_of_the_map(build, tmp_path: Path) -> None:
    """Two nodules that touch: together the masks are the map's nodule pixels, and none is in both."""
    row = build.slice()
    row["label"][10:16, 6:12] = NODULE
    row["nodules"] = [nodule_at(6.5, 12.0, 4.0), nodule_at(10.5, 12.0, 4.0)]
    row["label"][11, 7] = 3  # a hole, which a polygon would fill
    dataset = build.dataset(Kind.SLICES, [row])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="coco"))
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    masks = [coco.annToMask(annotation) for annotation in coco.loadAnns(coco.getAnnIds(imgIds=1))]
    assert len(masks) == 2
    np.testing.assert_array_equal(sum(masks), row["label"] == NODULE)
    assert [annotation["area"] for annotation in coco.anns.values()] == [float(mask.sum()) for mask in masks]


def test_torchvision_gives_the_image_with_its_annotations(build, samples: str, tmp_path: Path) -> None:
    run(ExportConfig(data=(samples,), out=str(tmp_path / "out"), format="coco"))
    data = CocoDetection(str(tmp_path / "out"), str(tmp_path / "out" / "annotations.json"))
    image, annotations = data[1]
    assert len(data) == 7
    assert image.size == (48, 40)
    assert [annotation["bbox"] for annotation in annotations] == [[6.0, 10.0, 2.0, 3.0]]
    assert data[0][1] == [], "the first is healthy"


def test_small_boxes_are_left_out_and_counted(build, tmp_path: Path) -> None:
    row = build.slice()
    row["label"][20:30, 30:34] = NODULE
    row["nodules"].append(nodule_at(31.5, 24.5, 10.0))
    dataset = build.dataset(Kind.SLICES, [row])
    result = run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="coco", min_box_px=3))
    assert (result.boxes, result.small_boxes) == (1, 1), "one is 2 columns wide, the other 4"
    (annotation,) = COCO(str(tmp_path / "out" / "annotations.json")).anns.values()
    assert annotation["bbox"] == [30.0, 20.0, 4.0, 10.0]


def test_a_nodule_without_pixels_has_the_box_of_its_circle_and_an_empty_mask(build, tmp_path: Path) -> None:
    row = build.slice(healthy=True)
    row["nodules"] = [nodule_at(12.0, 12.0, 4.0)]
    dataset = build.dataset(Kind.SLICES, [row])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), format="coco"))
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    (annotation,) = coco.anns.values()
    assert (annotation["bbox"], annotation["area"]) == ([10.5, 10.5, 4.0, 4.0], 16.0)
    assert not coco.annToMask(annotation).any()


def test_slices_of_luna16_carry_its_licence_and_others_do_not(build, tmp_path: Path) -> None:
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"
    luna, other = build.slice(uid=uid), build.slice()
    sample = build.sample("a") | {"source_series_uid": uid}
    slices = build.dataset(Kind.SLICES, [luna], [other], name="slices")
    samples = build.dataset(Kind.SAMPLES, [sample], name="samples")
    run(ExportConfig(data=(slices.uri, samples.uri), out=str(tmp_path / "out"), format="coco"))
    document = json.loads((tmp_path / "out" / "annotations.json").read_bytes())
    (licence,) = document["licenses"]
    assert licence == {"id": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}
    assert [image.get("license") for image in document["images"]] == [1, None, 1]
    assert [image["synthetic"] for image in document["images"]] == [False, False, True]
    assert document["info"]["attribution"].startswith("LUNA16 (Setio et al.")
    assert all(made.manifest_sha256 in document["info"]["description"] for made in (slices, samples))

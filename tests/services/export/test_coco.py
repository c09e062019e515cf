"""The boxes, read with pycocotools."""

from pathlib import Path

from pycocotools.coco import COCO

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.job import run


def test_coco_reads_pictures_boxes_areas_and_the_category(build, tmp_path: Path) -> None:
    two = build.slice(4)
    two["label"][20:30, 30:34] = 5
    two["nodules"].append({"x": 31.5, "y": 24.5, "diameter_px": 10.0, "diameter_mm": 10.0})
    dataset = build.dataset(Kind.SLICES, [build.slice(3), build.slice(9, healthy=True)], [two])
    result = run(ExportConfig(data=dataset.uri, out=str(tmp_path / "out"), format="coco"))
    assert (result.files, result.boxes) == ({"ct": 3}, 3)
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "nodule", "supercategory": "lesion"}]
    assert coco.loadImgs([1, 2, 3]) == [
        {"id": number, "file_name": f"real_1.2.3_z{index:04}_ct.png", "height": 40, "width": 48}
        for number, index in ((1, 3), (2, 9), (3, 4))
    ]
    assert [len(coco.getAnnIds(imgIds=[number])) for number in (1, 2, 3)] == [1, 0, 2]
    assert coco.anns[3] == {
        "id": 3,
        "image_id": 3,
        "category_id": 1,
        "bbox": [30.0, 20.0, 4.0, 10.0],
        "area": 40.0,
        "iscrowd": 0,
    }
    assert coco.getAnnIds(areaRng=[5, 7]) == [1, 2], "2 columns times 3 rows"


def test_perfect_detections_have_an_average_precision_of_one(build, tmp_path: Path) -> None:
    from pycocotools.cocoeval import COCOeval

    dataset = build.dataset(Kind.SAMPLES, [build.sample("a"), build.sample("b")])
    run(ExportConfig(data=dataset.uri, out=str(tmp_path / "out"), format="coco"))
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

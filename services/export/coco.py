"""Nodule boxes in COCO format (https://cocodataset.org/#format-data)."""

import json
from typing import Any

from lungforge.ct.nodules import nodule_boxes
from lungforge.datasets import Dataset

#: Path of the annotations, within the export.
ANNOTATIONS_NAME = "annotations.json"
#: Id of the only category.
NODULE_CATEGORY = 1


class CocoAnnotations:
    """Collector of images and boxes, with ids from 1 in the order of the dataset's rows."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._boxes: list[dict[str, Any]] = []

    @property
    def boxes(self) -> int:
        """Number of boxes so far."""
        return len(self._boxes)

    def add(self, file_name: str, row: dict[str, Any]) -> None:
        """Add an image and the boxes of its nodules."""
        height, width = row["label"].shape
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for left, top, box_width, box_height in nodule_boxes(row["label"], row["nodules"]):
            self._boxes.append(
                {
                    "id": len(self._boxes) + 1,
                    "image_id": image_id,
                    "category_id": NODULE_CATEGORY,
                    "bbox": [left, top, box_width, box_height],
                    "area": box_width * box_height,
                    "iscrowd": 0,
                }
            )

    def to_bytes(self, dataset: Dataset) -> bytes:
        """The content of ``annotations.json``."""
        document = {
            "info": {
                "description": f"LungForge {dataset.manifest.kind.value}, "
                f"manifest sha256 {dataset.manifest_sha256}",
                "version": dataset.manifest.code_version,
            },
            "licenses": [],
            "images": self._images,
            "annotations": self._boxes,
            "categories": [{"id": NODULE_CATEGORY, "name": "nodule", "supercategory": "lesion"}],
        }
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

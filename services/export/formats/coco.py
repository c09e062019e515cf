"""Nodule boxes and masks in COCO format (https://cocodataset.org/#format-data)."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from lungforge import __version__
from lungforge.datasets.sources import ATTRIBUTION, LICENCE, LICENCE_URL
from services.export.boxes import NoduleBox, annotated_nodules
from services.export.formats.base import ExportFormat, Files
from services.export.pictures import grey_png
from services.export.rows import Item

#: Id of the only category, and of the only licence.
NODULE_CATEGORY, LUNA16_LICENCE = 1, 1


class Coco(ExportFormat):
    """``NAME_ct.png`` and ``annotations.json``, or one each for training and validation."""

    reads = frozenset({"window", "min_box_px"})
    crops_lack = "boxes"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        names = ("annotations_train.json", "annotations_val.json") if config.splits else ("annotations.json",)
        self._sets = {name: _Annotations() for name in names}
        self._boxes = self._small = 0

    def encode(self, item: Item) -> Files:
        """The image in the window."""
        return {f"{item.name}_ct.png": grey_png(item, item.row["image"], self.config.window)}

    def add(self, item: Item, paths: Sequence[str]) -> None:
        """Annotate the image."""
        nodules, small = annotated_nodules(item, self.config.min_box_px)
        name = f"annotations_{item.split}.json" if item.split else "annotations.json"
        self._sets[name].add(paths[0], item, nodules)
        self._boxes += len(nodules)
        self._small += small

    def finish(self) -> Files:
        """The annotations."""
        return {name: annotations.to_bytes() for name, annotations in self._sets.items()}

    def counts(self) -> dict[str, Any]:
        """Boxes, and those that are too small."""
        return {"boxes": self._boxes, "small_boxes": self._small}


class _Annotations:
    """Images and nodules of one file, with ids from 1 in the order of the rows."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._origins: dict[str, None] = {}
        self._from_luna16 = False

    def add(self, file_name: str, item: Item, nodules: Sequence[NoduleBox]) -> None:
        height, width = item.row["label"].shape
        image_id = len(self._images) + 1
        image: dict[str, Any] = {
            "id": image_id,
            "file_name": file_name,
            "height": height,
            "width": width,
            "synthetic": item.synthetic,
            "series_uid": item.series_uid,
            "slice_index": item.slice_index,
            "spacing_mm": list(item.spacing_mm),
        }
        if item.from_luna16:
            self._from_luna16 = True
            image["license"] = LUNA16_LICENCE
        self._images.append(image)
        self._origins[item.origin] = None
        for nodule in nodules:
            run_lengths = coco_mask.encode(np.asfortranarray(nodule.mask.astype(np.uint8)))
            # Of a nodule without pixels in the map only the box is known.
            area = float(nodule.mask.sum()) or nodule.box[2] * nodule.box[3]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": NODULE_CATEGORY,
                    "bbox": list(nodule.box),
                    "area": area,
                    "segmentation": {"size": [height, width], "counts": run_lengths["counts"].decode()},
                    "iscrowd": 0,
                    "diameter_mm": nodule.diameter_mm,
                }
            )

    def to_bytes(self) -> bytes:
        info = {"description": "; ".join(self._origins), "version": __version__, "contributor": "LungForge"}
        licences = []
        if self._from_luna16:
            info["attribution"] = ATTRIBUTION
            licences = [{"id": LUNA16_LICENCE, "name": LICENCE, "url": LICENCE_URL}]
        document = {
            "info": info,
            "licenses": licences,
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": NODULE_CATEGORY, "name": "nodule", "supercategory": "lesion"}],
        }
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

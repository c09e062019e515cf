"""Nodule boxes as Ultralytics' YOLO reads them (https://docs.ultralytics.com/datasets/detect/)."""

from collections.abc import Sequence
from typing import Any

from lungforge.datasets.sources import ATTRIBUTION, LICENCE
from services.export.boxes import annotated_nodules
from services.export.formats.base import ExportFormat, Files
from services.export.pictures import grey_png
from services.export.rows import Item
from services.export.split import TRAIN, VALIDATION


class Yolo(ExportFormat):
    """``images/train/NAME.png``, ``labels/train/NAME.txt`` (and ``val``), and ``data.yaml``."""

    reads = frozenset({"window", "min_box_px"})
    crops_lack = "boxes"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._boxes = self._small = 0
        self._from_luna16 = False

    def encode(self, item: Item) -> Files:
        """The image, and a line for each nodule: class, centre x, centre y, width, height, as shares."""
        height, width = item.row["label"].shape
        side = item.split or TRAIN
        lines = []
        for nodule in annotated_nodules(item, self.config.min_box_px)[0]:
            left, top, box_width, box_height = nodule.box
            shares = (
                (left + box_width / 2) / width,
                (top + box_height / 2) / height,
                box_width / width,
                box_height / height,
            )
            lines.append(" ".join(["0", *(f"{share:.8f}" for share in shares)]) + "\n")
        return {
            f"images/{side}/{item.name}.png": grey_png(item, item.row["image"], self.config.window),
            f"labels/{side}/{item.name}.txt": "".join(lines).encode(),
        }

    def add(self, item: Item, paths: Sequence[str]) -> None:
        """Count the boxes."""
        nodules, small = annotated_nodules(item, self.config.min_box_px)
        self._boxes += len(nodules)
        self._small += small
        self._from_luna16 |= item.from_luna16

    def finish(self) -> Files:
        """``data.yaml``; without a ``path``, its own folder is the root."""
        validation = VALIDATION if self.config.splits else TRAIN
        lines = [
            f"train: images/{TRAIN}",
            f"val: images/{validation}" + ("" if self.config.splits else "  # no split: give your own"),
            "names:",
            "  0: nodule",
        ]
        if self._from_luna16:
            lines += [f"license: {LICENCE}", f'attribution: "{ATTRIBUTION}"']
        return {"data.yaml": ("\n".join(lines) + "\n").encode()}

    def counts(self) -> dict[str, Any]:
        """Boxes, and those that are too small."""
        return {"boxes": self._boxes, "small_boxes": self._small}

    def content_of(self, path: str) -> str:
        """``image`` or ``boxes``."""
        return "image" if path.startswith("images/") else "boxes"

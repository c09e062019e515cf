"""Crops in a folder per class, as torchvision's ``ImageFolder`` reads them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lungforge.ct import classes
from lungforge.ct.crops import cut_crop
from lungforge.datasets import Kind
from lungforge.randomness import numpy_generator
from services.common.progress import say
from services.export.formats.base import ExportFormat, Files
from services.export.pictures import grey_png
from services.export.rows import CLASS_FOLDERS, Item


class ImageFolder(ExportFormat):
    """``nodule/NAME_xX_yY_ct.png`` and ``no_nodule/...``; with a split below ``train`` and ``val``."""

    reads = frozenset({"window", "crop"})

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._classes: Counter[str] = Counter(dict.fromkeys(CLASS_FOLDERS, 0))

    def encode(self, item: Item) -> Files:
        """A crop around each nodule; without nodules, one crop around a lung pixel."""
        row, window = item.row, self.config.window
        above = f"{item.split}/" if item.split else ""
        if item.kind is Kind.CROPS:
            folder = CLASS_FOLDERS[row["label"]]
            return {f"{above}{folder}/{item.name}_ct.png": grey_png(item, row["image"], window)}
        places = [(nodule["x"], nodule["y"]) for nodule in row["nodules"]]
        folder = CLASS_FOLDERS[bool(places)]
        if not places:
            places = _healthy_place(item)
        # Nodules that round to one pixel give one crop.
        return {
            f"{above}{folder}/{item.name}_x{round(x)}_y{round(y)}_ct.png": grey_png(
                item, cut_crop(row["image"], x, y, self.config.crop), window, crop=True
            )
            for x, y in places
        }

    def add(self, item: Item, paths: Sequence[str]) -> None:
        """Count the crops by class."""
        self._classes.update(path.split("/")[-2] for path in paths)

    def finish(self) -> Files:
        """Nothing but a word about an empty class, which ``ImageFolder`` would not know."""
        for name, crops in self._classes.items():
            if not crops:
                say(f"{name} is empty: no such slices (for healthy ones: preprocess --healthy-every)")
        return {}

    def counts(self) -> dict[str, Any]:
        """Crops by class."""
        return {"classes": dict(self._classes)}


def _healthy_place(item: Item) -> list[tuple[float, float]]:
    """A random lung pixel of a slice without nodules; empty if there are no lungs."""
    label = item.row["label"]
    lungs = np.argwhere((label == classes.LEFT_LUNG) | (label == classes.RIGHT_LUNG))
    if not len(lungs) or (label == classes.NODULE).any():
        return []
    if item.synthetic:
        identity: tuple[int | str, ...] = (item.row["sample_id"],)
    else:
        identity = (item.series_uid, item.slice_index)
    y, x = lungs[numpy_generator("healthy crop", *identity).integers(len(lungs))]
    return [(float(x), float(y))]

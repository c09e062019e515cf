"""8-bit and 16-bit images and maps, as PNG."""

from typing import Any, ClassVar

from lungforge.datasets import Kind
from lungforge.visualisation.contact_sheets import HU_OFFSET
from services.export.formats.base import ExportFormat, Files
from services.export.pictures import grey_png, hu_png, map_png
from services.export.rows import Item


class Png(ExportFormat):
    """``NAME_ct.png`` in the window, ``NAME_hu.png`` with all HU, and ``NAME_map.png``."""

    reads = frozenset({"window"})
    notes: ClassVar[dict[str, Any]] = {"hu_offset": HU_OFFSET}

    def encode(self, item: Item) -> Files:
        """The images; of a crop there is no map."""
        files = {
            f"{item.name}_ct.png": grey_png(item, item.row["image"], self.config.window),
            f"{item.name}_hu.png": hu_png(item),
        }
        return files if item.kind is Kind.CROPS else files | {f"{item.name}_map.png": map_png(item)}

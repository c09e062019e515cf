"""Values and maps with their spacing, as MetaImage."""

from services.export.formats.base import ExportFormat, Files
from services.export.itk_files import metaimage_bytes
from services.export.pictures import describe_image, describe_map
from services.export.rows import Item


class MetaImage(ExportFormat):
    """``NAME_hu.mha`` and ``NAME_map.mha``, of two dimensions."""

    crops_lack = "spacing"

    def encode(self, item: Item) -> Files:
        """The two files."""
        row, spacing_mm = item.row, item.spacing_mm
        return {
            f"{item.name}_hu.mha": metaimage_bytes(row["image"], spacing_mm, describe_image(item)),
            f"{item.name}_map.mha": metaimage_bytes(row["label"], spacing_mm, describe_map(item)),
        }

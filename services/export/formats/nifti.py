"""Values and maps with their place in millimetres, as NIfTI."""

from services.export.formats.base import ExportFormat, Files
from services.export.itk_files import nifti_bytes
from services.export.rows import Item


class Nifti(ExportFormat):
    """``NAME_hu.nii.gz`` and ``NAME_map.nii.gz``: one slice in three dimensions."""

    crops_lack = "spacing"

    def encode(self, item: Item) -> Files:
        """The two files; the header says of a synthetic slice that it is one."""
        return {
            f"{item.name}_{content}.nii.gz": nifti_bytes(
                item.row[column], item.spacing_mm, z_mm=item.z_mm, note=header_note(item)
            )
            for content, column in (("hu", "image"), ("map", "label"))
        }

    def content_of(self, path: str) -> str:
        """``hu`` or ``map``."""
        return super().content_of(path.removesuffix(".gz"))


def header_note(item: Item) -> str:
    """What a header of NIfTI, which has room for 79 characters, says of an image."""
    if item.synthetic:
        return f"Synthetic: LungForge {item.dataset.manifest.code_version}, {item.name}"
    return f"LungForge {item.dataset.manifest.code_version}, {item.dataset.manifest_sha256[:12]}"

"""A raw dataset of nnU-Net v2 (Isensee et al., Nature Methods 2021).

The layout is that of nnU-Net's documentation, dataset_format.md: ``imagesTr/CASE_0000.nii.gz``,
``labelsTr/CASE.nii.gz`` and ``dataset.json``; the slices are images of two dimensions.
"""

import json
from collections.abc import Sequence
from typing import Any

from lungforge.ct import classes
from lungforge.datasets.sources import ATTRIBUTION, LICENCE
from services.export.formats.base import ExportFormat, Files
from services.export.formats.nifti import header_note
from services.export.itk_files import nifti_bytes
from services.export.rows import Item
from services.export.split import TRAIN, VALIDATION

_ENDING = ".nii.gz"


class NnUNet(ExportFormat):
    """HU as the channel CT, and the map as labels 0 to 5."""

    crops_lack = "maps"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._cases: dict[str, list[str]] = {TRAIN: [], VALIDATION: []}
        self._from_luna16 = False

    def encode(self, item: Item) -> Files:
        """The image and the labels of a case."""
        note = header_note(item)
        image = nifti_bytes(item.row["image"], item.spacing_mm, z_mm=None, note=note)
        label = nifti_bytes(item.row["label"], item.spacing_mm, z_mm=None, note=note)
        return {f"imagesTr/{item.name}_0000{_ENDING}": image, f"labelsTr/{item.name}{_ENDING}": label}

    def add(self, item: Item, paths: Sequence[str]) -> None:
        """Count a case."""
        self._cases[item.split or TRAIN].append(item.name)
        self._from_luna16 |= item.from_luna16

    def finish(self) -> Files:
        """``dataset.json``; with a split also ``splits_final.json``, the one fold that it stands for."""
        document: dict[str, Any] = {
            "channel_names": {"0": "CT"},
            "labels": {name: value for value, name in enumerate(classes.NAMES)},
            "numTraining": sum(map(len, self._cases.values())),
            "file_ending": _ENDING,
            "overwrite_image_reader_writer": "SimpleITKIO",
        }
        if self._from_luna16:
            document |= {"licence": LICENCE, "reference": ATTRIBUTION}
        files = {"dataset.json": _json(document)}
        if self.config.splits:
            files["splits_final.json"] = _json([self._cases])
        return files

    def content_of(self, path: str) -> str:
        """``image`` or ``label``."""
        return "image" if path.startswith("imagesTr/") else "label"


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()

"""Names and contents of the files of a dataset row: a pure function of the row."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.crops import cut_crop
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind
from lungforge.randomness import numpy_generator
from lungforge.visualisation.contact_sheets import HU_OFFSET, hu_to_uint16, png_bytes
from services.export.config import ExportConfig
from services.export.metaimage import metaimage_bytes

#: Folders of ``imagefolder``, indexed by the class of a crop.
CLASS_FOLDERS = ("no_nodule", "nodule")

_CLASS_TEXT = ", ".join(f"{value} {name}" for value, name in enumerate(classes.NAMES))

Row = dict[str, Any]


class UniqueNames:
    """Assigns each row the prefix of its file names, without repeats."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._taken: set[str] = set()

    def next(self, row: Row) -> str:
        """The prefix of the next row, in the order of the dataset."""
        name = first = row_name(self._kind, row)
        count = 1
        # Two candidates may round to one pixel, and a dataset written by other software may repeat any name.
        while name in self._taken:
            count += 1
            name = f"{first}_{count}"
        self._taken.add(name)
        return name


def row_name(kind: Kind, row: Row) -> str:
    """The prefix of a row's file names: whether it is real, and its identity."""
    match kind:
        case Kind.SAMPLES:
            return f"synthetic_{file_safe(row['sample_id'])}"
        case Kind.CROPS:
            place = f"x{round(row['x'])}_y{round(row['y'])}_{CLASS_FOLDERS[row['label']]}"
            return f"real_{file_safe(row['series_uid'])}_z{row['slice_index']:04d}_{place}"
        case _:
            return f"real_{file_safe(row['series_uid'])}_z{row['slice_index']:04d}"


def file_safe(identifier: str) -> str:
    """An identifier as part of a file name: letters, digits, dashes, dots, underscores; never a path."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", identifier)


@dataclass(frozen=True)
class RowFiles:
    """Encoder of rows as files. Stateless, so that threads can share it."""

    dataset: Dataset
    config: ExportConfig

    def make(self, name: str, row: Row) -> dict[str, bytes]:
        """Encode the files of a row.

        Args:
            name: Prefix from ``UniqueNames``.
            row: Column name to value.

        Returns:
            Path within the export to content; empty for a slice without a crop for ``imagefolder``.
        """
        match self.config.format:
            case "png":
                files = {f"{name}_ct.png": self._grey(row, row["image"]), f"{name}_hu.png": self._hu(row)}
                if self.kind is not Kind.CROPS:
                    files[f"{name}_map.png"] = self._map(row)
                return files
            case "coco":
                return {f"{name}_ct.png": self._grey(row, row["image"])}
            case "metaimage":
                spacing_mm = (row["spacing_mm"][0], row["spacing_mm"][1])
                return {
                    f"{name}_hu.mha": metaimage_bytes(row["image"], spacing_mm, self._text(row, self._ct)),
                    f"{name}_map.mha": metaimage_bytes(row["label"], spacing_mm, self._map_text(row)),
                }
            case "imagefolder":
                return self._class_crops(name, row)

    @property
    def kind(self) -> Kind:
        """Kind of the dataset."""
        return self.dataset.manifest.kind

    @property
    def _ct(self) -> str:
        whole = self.kind is not Kind.CROPS and self.config.format != "imagefolder"
        return f"{'synthetic ' if self.kind is Kind.SAMPLES else ''}CT {'slice' if whole else 'crop'}"

    def _grey(self, row: Row, hu: NDArray[np.int16]) -> bytes:
        low, high = self.config.window
        text = self._text(row, self._ct) | {"Window": f"{low} to {high} HU as 0 to 255"}
        return png_bytes(hu_to_uint8(hu, (low, high)), text)

    def _hu(self, row: Row) -> bytes:
        text = self._text(row, self._ct) | {"HU": f"grey value - {HU_OFFSET}"}
        return png_bytes(hu_to_uint16(row["image"]), text)

    def _map(self, row: Row) -> bytes:
        return png_bytes(row["label"], self._map_text(row))

    def _map_text(self, row: Row) -> dict[str, str]:
        return self._text(row, f"semantic map of a {self._ct}") | {"Classes": _CLASS_TEXT}

    def _text(self, row: Row, description: str) -> dict[str, str]:
        """Metadata of an image; synthetic images are marked first."""
        manifest = self.dataset.manifest
        text = {
            "Description": description,
            "Source": f"LungForge {self.kind.value} dataset, manifest sha256 {self.dataset.manifest_sha256}",
        }
        if self.kind is not Kind.SAMPLES:
            return text
        maker = (
            f"LungForge {manifest.code_version}, sample {file_safe(row['sample_id'])}, "
            f"model sha256 {row['model_sha256']}"
        )
        return {"Synthetic": maker, **text}

    def _class_crops(self, name: str, row: Row) -> dict[str, bytes]:
        """A crop around each nodule; without nodules, one crop around a lung pixel."""
        if self.kind is Kind.CROPS:
            folder = CLASS_FOLDERS[row["label"]]
            return {f"{folder}/{name}_ct.png": self._grey(row, row["image"])}
        places = [(nodule["x"], nodule["y"]) for nodule in row["nodules"]]
        folder = CLASS_FOLDERS[bool(places)]
        if not places:
            places = self._healthy_place(row)
        # Nodules that round to one pixel give one crop.
        return {
            f"{folder}/{name}_x{round(x)}_y{round(y)}_ct.png": self._grey(
                row, cut_crop(row["image"], x, y, self.config.crop)
            )
            for x, y in places
        }

    def _healthy_place(self, row: Row) -> list[tuple[float, float]]:
        """A random lung pixel of a slice without nodules; empty if there are no lungs."""
        label = row["label"]
        lungs = np.argwhere((label == classes.LEFT_LUNG) | (label == classes.RIGHT_LUNG))
        if not len(lungs) or (label == classes.NODULE).any():
            return []
        if self.kind is Kind.SAMPLES:
            identity: tuple[int | str, ...] = (row["sample_id"],)
        else:
            identity = (row["series_uid"], row["slice_index"])
        y, x = lungs[numpy_generator("healthy crop", *identity).integers(len(lungs))]
        return [(float(x), float(y))]

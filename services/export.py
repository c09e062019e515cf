"""``lungforge export``: a dataset's pictures as files for other programs, with where they came from."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from lungforge.ct.classes import NODULE
from lungforge.ct.window import WINDOW_HU, hu_to_uint8
from lungforge.errors import InputError
from lungforge.pictures import png_bytes
from lungforge.store import Dataset, Kind, join_uri, rows_from_table, write_bytes_atomic
from services.progress import progress


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Write a dataset's pictures as PNG files, with where they came from."""

    data: str
    """The dataset: slices, samples or crops."""

    out: str
    """Folder (or URI) to write to."""

    format: Literal["png", "coco"] = "png"
    """png: pictures and maps. coco: the same, and annotations.json with the box of every nodule."""


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was written: the folder, the number of pictures, and of boxes in annotations.json."""

    out: str
    pictures: int
    boxes: int


def run(config: ExportConfig) -> ExportResult:
    """Write the pictures.

    Every CT picture is 8-bit grey through the window of -1000 to 400 HU, and says in its PNG text what it
    is; every map is 8-bit with the class as the value. ``provenance.json`` names the dataset, its checksum
    and the datasets that it was made from. Files that are there are written over.

    Raises:
        InputError: The dataset is none, or is of a kind without pictures, or crops are asked for as COCO.
    """
    dataset = Dataset.open(config.data)
    kind = Kind(dataset.manifest.kind)
    if kind not in (Kind.SLICES, Kind.SAMPLES, Kind.CROPS):
        raise InputError(f"{config.data} is a {kind.value} dataset; export takes slices, samples or crops")
    if kind is Kind.CROPS and config.format == "coco":
        raise InputError("crops have a class and no boxes; export them with --format png")
    provenance = _provenance(dataset)
    text = {
        "Source": f"LungForge {kind.value} dataset, manifest sha256 {dataset.manifest_sha256}",
        "Description": "synthetic CT slice" if kind is Kind.SAMPLES else "CT slice",
        "Window": f"{WINDOW_HU[0]} to {WINDOW_HU[1]} HU as 0 to 255",
    }
    pictures: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    with progress("export", dataset.rows, unit="rows") as advance:
        for row in _rows(dataset):
            name = picture_name(kind, row)
            grey = hu_to_uint8(row["image"])
            write_bytes_atomic(join_uri(config.out, f"{name}_ct.png"), png_bytes(grey, text))
            if kind is not Kind.CROPS:
                write_bytes_atomic(join_uri(config.out, f"{name}_map.png"), png_bytes(row["label"], text))
            picture_id = len(pictures) + 1
            height, width = grey.shape
            pictures.append(
                {"id": picture_id, "file_name": f"{name}_ct.png", "height": height, "width": width}
            )
            if config.format == "coco":
                boxes += _annotations(row, picture_id=picture_id, first_id=len(boxes) + 1)
            advance()
    if config.format == "coco":
        document = {
            "info": {"description": f"LungForge {kind.value}", "version": dataset.manifest.code_version},
            "licenses": [],
            "images": pictures,
            "annotations": boxes,
            "categories": [{"id": 1, "name": "nodule", "supercategory": "lesion"}],
        }
        _write_json(join_uri(config.out, "annotations.json"), document)
    _write_json(join_uri(config.out, "provenance.json"), provenance)
    return ExportResult(out=config.out, pictures=len(pictures), boxes=len(boxes))


def picture_name(kind: Kind, row: dict[str, Any]) -> str:
    """A name that says whether the picture is real, and which row it is."""
    if kind is Kind.SAMPLES:
        return f"synthetic_{row['sample_id']}"
    name = f"real_{row['series_uid']}_z{row['slice_index']:04d}"
    if kind is Kind.CROPS:
        # ImageFolder layout: the class is the folder. Two candidates of a slice differ in their place.
        folder = "nodule" if row["label"] else "no_nodule"
        return f"{folder}/{name}_x{row['x']:.0f}_y{row['y']:.0f}"
    return name


def nodule_boxes(
    label: np.ndarray, nodules: list[dict[str, float]]
) -> list[tuple[float, float, float, float]]:
    """The box of each nodule of a map.

    Nodule pixels belong to the nodule whose centre is nearest, measured in that nodule's diameters. A
    nodule that has no pixel of its own in the map is given the box of its circle.

    Args:
        label: Classes, uint8 [H, W].
        nodules: Centre ``x``, ``y`` and ``diameter_px`` of each, in px.

    Returns:
        A (left, top, width, height) in px for each nodule; the left edge of the first column is 0.
    """
    rows, columns = np.nonzero(label == NODULE)
    boxes = []
    if nodules and len(rows):
        distances = [
            np.hypot(columns - nodule["x"], rows - nodule["y"]) / nodule["diameter_px"] for nodule in nodules
        ]
        owner = np.argmin(distances, axis=0)
    else:
        owner = np.zeros(len(rows), dtype=int)
    height, width = label.shape
    for index, nodule in enumerate(nodules):
        own_rows, own_columns = rows[owner == index], columns[owner == index]
        if len(own_rows):
            left, top = float(own_columns.min()), float(own_rows.min())
            right, bottom = own_columns.max() + 1.0, own_rows.max() + 1.0
        else:
            radius = nodule["diameter_px"] / 2
            left, right = np.clip([nodule["x"] + 0.5 - radius, nodule["x"] + 0.5 + radius], 0, width)
            top, bottom = np.clip([nodule["y"] + 0.5 - radius, nodule["y"] + 0.5 + radius], 0, height)
        boxes.append((float(left), float(top), float(right - left), float(bottom - top)))
    return boxes


def _annotations(row: dict[str, Any], *, picture_id: int, first_id: int) -> list[dict[str, Any]]:
    return [
        {
            "id": first_id + index,
            "image_id": picture_id,
            "category_id": 1,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for index, box in enumerate(nodule_boxes(row["label"], row["nodules"]))
    ]


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for part in dataset.manifest.parts:
        for batch in dataset.iter_batches(part):
            yield from rows_from_table(batch)


def _provenance(dataset: Dataset) -> dict[str, Any]:
    return {
        "dataset": dataclasses.asdict(dataset.parent()),
        "made_from": [dataclasses.asdict(parent) for parent in dataset.manifest.parents],
        "made_by": f"LungForge {dataset.manifest.code_version}",
        "config": dataset.manifest.config,
        "synthetic": dataset.manifest.kind == Kind.SAMPLES,
        "window_hu": list(WINDOW_HU),
        "sources": (
            "LUNA16 (CC BY 4.0; Setio et al. 2017, doi:10.1016/j.media.2017.06.015) and "
            "LIDC-IDRI (CC BY 3.0; Armato et al. 2011, doi:10.1118/1.3528204), where the volumes are theirs"
        ),
    }


def _write_json(uri: str, document: dict[str, Any]) -> None:
    write_bytes_atomic(uri, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())

"""Valid rows of datasets for tests, in which a test changes what it is about."""

from typing import Any

import numpy as np

from lungforge.datasets.slices import SliceRow


def nodule_at(x: float, y: float, diameter_px: float, diameter_mm: float | None = None) -> dict[str, float]:
    """A nodule of a row, in pixels of 1 mm unless its diameter in mm is given."""
    diameter_mm = diameter_px if diameter_mm is None else diameter_mm
    return {"x": x, "y": y, "diameter_px": diameter_px, "diameter_mm": diameter_mm}


def slice_row(**changes: Any) -> dict[str, Any]:
    """A row of a slices dataset; image and map are empty and of one size, that of the one that is given."""
    given = changes.get("image", changes.get("label"))
    shape = (16, 16) if given is None else given.shape
    return _changed(
        {
            "series_uid": "1.2.3",
            "subset": 0,
            "slice_index": 0,
            "z_mm": 0.0,
            "spacing_mm": [1.0, 1.0],
            "image": np.zeros(shape, np.int16),
            "label": np.zeros(shape, np.uint8),
            "nodules": [],
        },
        changes,
    )


def crop_row(**changes: Any) -> dict[str, Any]:
    """A row of a crops dataset: a candidate that is no nodule."""
    return _changed(
        {
            "series_uid": "1.2.3",
            "subset": 0,
            "slice_index": 0,
            "x": 1.0,
            "y": 2.0,
            "label": 0,
            "image": np.zeros((32, 32), np.int16),
        },
        changes,
    )


def sample_row(source: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A row of a samples dataset that was generated from the whole of a slice row and looks like it."""
    same = {name: source[name] for name in ("subset", "spacing_mm", "image", "label", "nodules")}
    return _changed(
        {
            "sample_id": "sample-0",
            "source_series_uid": source["series_uid"],
            "source_slice_index": source["slice_index"],
            "source_top": 0,
            "source_left": 0,
            **same,
            "replicate": 0,
            "seed": 0,
            "edit": "",
            "inpainted": False,
            "sampler": "ancestral",
            "steps": 50,
            "guidance": 1.5,
            "model_sha256": "ab" * 32,
        },
        changes,
    )


def slice_of(**changes: Any) -> SliceRow:
    """A slice as read from a dataset; ``changes`` are those of ``slice_row``."""
    row = slice_row(**changes)
    return SliceRow(
        series_uid=row["series_uid"],
        subset=row["subset"],
        slice_index=row["slice_index"],
        spacing_mm=tuple(row["spacing_mm"]),
        image=row["image"],
        label=row["label"],
        nodules=tuple(row["nodules"]),
    )


def _changed(row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    assert changes.keys() <= row.keys(), f"no such columns: {changes.keys() - row.keys()}"
    return row | changes

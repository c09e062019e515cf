"""Rows go into a table and come back."""

import numpy as np

from lungforge.datasets import Kind, rows_from_table, table_from_rows


def test_rows_come_back_as_they_went_in() -> None:
    row = {
        "series_uid": "1.2.3",
        "subset": -1,
        "slice_index": 7,
        "z_mm": -12.5,
        "spacing_mm": [0.7, 0.8],
        "image": np.arange(12, dtype=np.int16).reshape(3, 4) - 1000,
        "label": (np.arange(12) % 6).astype(np.uint8).reshape(3, 4),
        "nodules": [{"x": 1.5, "y": 2.0, "diameter_px": 2.0, "diameter_mm": 1.5}],
    }
    second = row | {"slice_index": 8, "image": row["image"][::-1].copy(), "nodules": []}
    back = rows_from_table(table_from_rows(Kind.SLICES, [row, second]).slice(1, 1))[0]
    np.testing.assert_array_equal(back.pop("image"), second["image"])
    np.testing.assert_array_equal(back.pop("label"), second["label"])
    assert back == {name: value for name, value in second.items() if name not in ("image", "label")}

"""Pictures on the way: maps, the real slices, and what the model makes of the maps so far."""

import numpy as np
from numpy.typing import NDArray

from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import RowIndex
from lungforge.models.base import SliceSampler
from lungforge.models.place import place_of
from lungforge.randomness import numpy_generator
from lungforge.visualisation.contact_sheets import contact_sheet, map_tile, png_bytes, slice_tile
from services.train.config import TrainConfig

#: Slices in the picture, spread evenly over the training set.
_SLICES = 4


def preview_picture(
    sampler: SliceSampler, index: RowIndex, config: TrainConfig
) -> tuple[NDArray[np.uint8], bytes]:
    """A row for each of some slices: map, real slice, and the synthetic one of the map.

    Args:
        sampler: Of the moving average.
        index: The training set.
        config: Of the run.

    Returns:
        The picture, [H, W, 3], and the same as PNG.
    """
    rows = index.read(np.linspace(0, len(index) - 1, min(_SLICES, len(index))).astype(int))
    corners = [(0, 0)] * len(rows)
    if config.patch is not None:
        corners = [
            patch_corner(row, config.patch, numpy_generator(config.seed, "preview", position))
            for position, row in enumerate(rows)
        ]
        rows = [patch_at(row, config.patch, corner) for row, corner in zip(rows, corners, strict=True)]
    places = [
        place_of(row.spacing_mm, index.size, row.label.shape, corner)
        for row, corner in zip(rows, corners, strict=True)
    ]
    images = sampler.sample(
        np.stack([row.label for row in rows]),
        [(config.seed, "preview", position) for position in range(len(rows))],
        np.stack(places),
    )
    picture = contact_sheet(
        [
            [
                map_tile(row.label, f"...{row.series_uid[-12:]}"),
                slice_tile(row.image, row.label, f"slice {row.slice_index}"),
                slice_tile(image, row.label),
            ]
            for row, image in zip(rows, images, strict=True)
        ],
        column_headings=("map", "real", "synthetic"),
    )
    return picture, png_bytes(picture, {"Description": "maps, real and synthetic CT slices of a run"})

"""The figure of a shipped model: ``python -m benchmarks.model_figure --model URI --data URI --out FILE``.

A row for each of some slices, spread evenly over the scans that the model has not seen: the map, the real
slice, an image sampled from the map, and images sampled from the map with the nodule moved and removed, all
as sampled with the model's defaults, and all of a row from the same noise. Of each slice, a model of patches
gets the patch that sampling would cut.
"""

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.edits import EditName, edit_map
from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.patches import patch_at, patch_corner
from lungforge.datasets.slices import SliceRow, evenly, index_rows
from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.model_dataset import ModelDataset
from lungforge.models.place import place_of
from lungforge.randomness import numpy_generator
from lungforge.storage import write_bytes_atomic
from lungforge.visualisation.contact_sheets import WINDOW_TEXT, contact_sheet, map_tile, png_bytes, slice_tile

_TILE_PX = 192
_EDITS: tuple[EditName, ...] = ("move", "remove")


def unseen(data: Dataset, model: ModelDataset, count: int) -> tuple[list[SliceRow], NDArray[np.float64]]:
    """Slices of scans that a model was not trained on, spread evenly, and the diameters of all nodules in mm.

    Raises:
        InputError: The model was trained on all of them.
    """
    index = index_rows(data, None)
    trained = {scan_of(uid) for uid in model.details.series_uids or ()}
    new = np.asarray([scan_of(uid) not in trained for uid in index.series_uids])
    rows = np.flatnonzero(new[index.series])
    if not len(rows):
        raise InputError(f"{model.dataset.uri} was trained on all scans of {data.uri}; give other slices")
    return index.read(rows[evenly(len(rows), count)]), index.diameters_mm


def figure(model: ModelDataset, rows: list[SliceRow], diameters_mm: NDArray[np.float64]) -> bytes:
    """The figure as a PNG file."""
    sampler = model.sampler(SamplingOptions(), torch.device("cpu"), classes=classes.COUNT)
    tiles = []
    for number, whole in enumerate(rows):
        row, corner = whole, (0, 0)
        if model.details.patch is not None:
            corner = patch_corner(
                whole, model.details.patch, numpy_generator(0, "model figure", number, "patch")
            )
            row = patch_at(whole, model.details.patch, corner)
        place = place_of(row.spacing_mm, whole.label.shape, row.label.shape, corner)
        labels = [row.label]
        for name in _EDITS:
            edited = edit_map(
                name,
                row.label,
                row.nodules,
                spacing_mm=row.spacing_mm,
                generator=numpy_generator(0, "model figure", number, name),
                diameters_mm=diameters_mm,
            )
            labels.append(row.label if edited is None else edited.label)
        images = sampler.sample(
            np.stack(labels), [("model figure", number)] * len(labels), np.stack([place] * len(labels))
        )
        row_tiles = [map_tile(row.label, tile_px=_TILE_PX)]
        row_tiles += [slice_tile(hu, row.label, tile_px=_TILE_PX) for hu in (row.image, *images)]
        tiles.append(row_tiles)
    headings = ["map", "real", "synthetic", "nodule moved", "nodule removed"]
    picture = contact_sheet(
        tiles, column_headings=headings, footer=WINDOW_TEXT, legend=True, tile_px=_TILE_PX
    )
    return png_bytes(picture, {"Source": f"LungForge, {model.dataset.uri}; real slices: LUNA16, CC BY 4.0"})


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_figure", description=__doc__)
    parser.add_argument("--model", default="lungforge://slices-64", help="a model (default: %(default)s)")
    parser.add_argument("--data", default="lungforge://maps-64", help="slices (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=4, help="how many (default: %(default)s)")
    parser.add_argument("--out", required=True, help="PNG file")
    arguments = parser.parse_args()
    try:
        model = ModelDataset.open(arguments.model)
        rows, diameters_mm = unseen(Dataset.open(arguments.data, Kind.SLICES), model, arguments.rows)
        write_bytes_atomic(arguments.out, figure(model, rows, diameters_mm))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

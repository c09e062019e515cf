"""What the edits of a map do, on a slice: ``python -m benchmarks.map_edit_figure --source URI --out FILE``.

Draws the picture of ``docs/map-edits.md`` from a slices dataset. Of the slices whose only nodule is inside a
lung, the one is shown whose nodule's diameter is nearest to 15 mm. The CT is the original one in all columns.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import BACKGROUND, BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.edits import EDITS, EditedMap, EditName, edit_map
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import RowIndex, SliceRow, index_rows
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator
from lungforge.storage import write_bytes_atomic
from lungforge.visualisation.contact_sheets import (
    WINDOW_TEXT,
    Tile,
    contact_sheet,
    enlarge,
    png_bytes,
    render_map,
    render_overlay,
)

FACTOR = 2
#: What is shown around the lungs, in px.
AROUND = 8
EXAMPLE_MM = 15.0
#: Of the first few, the one whose edits are seen best at this size.
SEED = 15
HEADINGS = {"insert": "insert (after remove)"}


def example(index: RowIndex) -> SliceRow:
    """The slice whose only nodule is nearest to 15 mm, of those with nothing but lung around it.

    Raises:
        InputError: There is no such slice.
    """
    found = [row for row in index.read(range(len(index))) if _has_one_inside(row)]
    if not found:
        raise InputError(
            f"{index.dataset.uri} has no slice with a single nodule inside a lung; preprocess more scans"
        )
    return min(found, key=lambda row: abs(row.nodules[0]["diameter_mm"] - EXAMPLE_MM))


def _has_one_inside(row: SliceRow) -> bool:
    nodule = row.label == NODULE
    around = ndimage.binary_dilation(nodule, np.ones((3, 3))) & ~nodule
    return len(row.nodules) == 1 and bool(np.isin(row.label[around], (LEFT_LUNG, RIGHT_LUNG)).all())


def edit(name: EditName, row: SliceRow, seed: int, diameters_mm: NDArray[np.float64]) -> EditedMap:
    """Edit the map of a slice; a nodule is inserted where those that are there have been removed.

    Raises:
        InputError: The edit has no room in this slice.
    """
    label, nodules = row.label, row.nodules
    if name == "insert":
        label, nodules = edit("remove", row, seed, diameters_mm).label, ()
    generator = numpy_generator(seed, row.series_uid, row.slice_index, name)
    edited = edit_map(
        name, label, nodules, spacing_mm=row.spacing_mm, generator=generator, diameters_mm=diameters_mm
    )
    if edited is None:
        raise InputError(f"{name} has no room in slice {row.slice_index} of {row.series_uid}; try a --seed")
    return edited


def sheet(row: SliceRow, edited: Sequence[EditedMap]) -> bytes:
    """A PNG with a column for each edit: its outlines on the CT, and its map."""
    lungs = ndimage.find_objects((~np.isin(row.label, (BACKGROUND, BODY))).astype(int))[0]
    shown = tuple(
        slice(max(side.start - AROUND, 0), min(side.stop + AROUND, length))
        for side, length in zip(lungs, row.label.shape, strict=True)
    )
    top, left = shown[0].start, shown[1].start
    outlines, maps = [], []
    for each in edited:
        nodules = [{**nodule, "x": nodule["x"] - left, "y": nodule["y"] - top} for nodule in each.nodules]
        label = each.label[shown]
        outlines.append(Tile(render_overlay(row.image[shown], label, nodules, factor=FACTOR)))
        maps.append(Tile(enlarge(render_map(label), FACTOR)))
    picture = contact_sheet(
        [outlines, maps],
        column_headings=[HEADINGS.get(each.edit, each.edit) for each in edited],
        footer=f"Above, the outlines of each map on the CT of the slice, which is left alone; {WINDOW_TEXT}",
        legend=True,
    )
    return png_bytes(picture, {"Source": f"LungForge map edits, {row.series_uid}, slice {row.slice_index}"})


def main() -> int:
    """Draw the picture that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map_edit_figure", description=__doc__)
    parser.add_argument(
        "--source", required=True, help="a slices dataset, as `lungforge preprocess` makes it"
    )
    parser.add_argument("--out", required=True, help="the PNG file")
    parser.add_argument("--seed", type=int, default=SEED, help="decides places, factor, diameter and outline")
    options = parser.parse_args()
    try:
        index = index_rows(Dataset.open(options.source, Kind.SLICES))
        row = example(index)
        edited = [edit(name, row, options.seed, index.diameters_mm) for name in EDITS]
        write_bytes_atomic(options.out, sheet(row, edited))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

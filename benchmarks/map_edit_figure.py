"""The figure of map edits on a slice: ``python -m benchmarks.map_edit_figure --source URI --out FILE``.

Makes the first figure of ``docs/concepts/map-edits.md`` from a slices dataset. Of the slices whose only
nodule is inside a lung, it shows the one whose nodule's diameter is nearest to 15 mm. The CT is the
original one in all columns.
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
#: Margin around the lungs, in px.
AROUND = 8
EXAMPLE_MM = 15.0
#: Chosen among the first few, as its edits are most visible at this size.
SEED = 15
HEADINGS = {"insert": "insert (after remove)"}


def example(index: RowIndex) -> SliceRow:
    """The slice whose only nodule is surrounded by lung and nearest to 15 mm.

    Raises:
        InputError: There is no such slice.
    """
    candidates = [row for row in index.read(range(len(index))) if _has_one_inside(row)]
    if not candidates:
        raise InputError(
            f"{index.dataset.uri} has no slice with a single nodule inside a lung; preprocess more scans"
        )
    return min(candidates, key=lambda row: abs(row.nodules[0]["diameter_mm"] - EXAMPLE_MM))


def _has_one_inside(row: SliceRow) -> bool:
    nodule = row.label == NODULE
    around = ndimage.binary_dilation(nodule, np.ones((3, 3))) & ~nodule
    return len(row.nodules) == 1 and bool(np.isin(row.label[around], (LEFT_LUNG, RIGHT_LUNG)).all())


def edit(name: EditName, row: SliceRow, seed: int, diameters_mm: NDArray[np.float64]) -> EditedMap:
    """Edit the map of a slice; ``insert`` first removes the existing nodules.

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
        raise InputError(
            f"{name} has no room in slice {row.slice_index} of {row.series_uid}; try another --seed"
        )
    return edited


def sheet(row: SliceRow, edited: Sequence[EditedMap]) -> bytes:
    """A PNG with one column per edit: its outlines on the CT, and its map."""
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
        footer=f"Top: outlines of each map on the CT, which is unchanged; {WINDOW_TEXT}",
        legend=True,
    )
    return png_bytes(picture, {"Source": f"LungForge map edits, {row.series_uid}, slice {row.slice_index}"})


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map_edit_figure", description=__doc__)
    parser.add_argument("--source", required=True, help="slices dataset of `lungforge preprocess`")
    parser.add_argument("--out", required=True, help="PNG file")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the edits")
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

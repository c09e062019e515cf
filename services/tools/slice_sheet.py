"""The contact sheet of slices or samples: as a radiologist looks at them, with what the map says."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.nodules import nodule_masks
from lungforge.ct.orientation import upright
from lungforge.ct.window import LUNG_WINDOW_HU, SOFT_TISSUE_WINDOW_HU
from lungforge.datasets import Kind
from lungforge.datasets.sources import UNANNOTATED, from_luna16
from lungforge.visualisation.contact_sheets import Tile, contact_sheet, map_tile, render_overlay, slice_tile

_TILE_PX = 256
#: A map that shows less than this share of a nodule's disc is pointed out.
_FEW = 0.5


def slice_sheet(kind: Kind, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.uint8]:
    """A row for each slice: lung window, soft-tissue window, map, and the lung window with outlines.

    Args:
        kind: Slices or samples.
        rows: Rows of such a dataset.

    Returns:
        The picture, [height, width, 3].
    """
    synthetic = kind is Kind.SAMPLES
    ct = "synthetic CT" if synthetic else "CT"
    (low, high), (soft_low, soft_high) = LUNG_WINDOW_HU, SOFT_TISSUE_WINDOW_HU
    footer = [f"lung window {low} to {high} HU, soft-tissue window {soft_low} to {soft_high} HU"]
    if any(from_luna16(row["source_series_uid" if synthetic else "series_uid"]) for row in rows):
        footer.append(UNANNOTATED)
    return contact_sheet(
        [_tiles(kind, row) for row in rows],
        column_headings=(f"{ct}, lung window", f"{ct}, soft tissue", "map", "outlines"),
        footer="\n".join(footer),
        legend=True,
        tile_px=_TILE_PX,
    )


def nodule_words(label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]]) -> str:
    """The diameters of a slice's nodules, with a note on each of which the map shows little.

    The disc of a nodule has π/4 · diameter² pixels. A map may show fewer: the slice lies away from the
    nodule's centre, or the annotation misses it.

    Args:
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the column ``nodules``.
    """
    words = []
    for nodule, mask in zip(nodules, nodule_masks(label, nodules), strict=True):
        disc, shown = math.pi / 4 * nodule["diameter_px"] ** 2, int(mask.sum())
        size = f"{nodule['diameter_mm']:.1f} mm"
        words.append(f"{size} (map: only {shown} of {disc:.0f} px)" if shown < _FEW * disc else size)
    return f"nodules: {', '.join(words)}" if words else "no nodule"


def _tiles(kind: Kind, row: Mapping[str, Any]) -> list[Tile]:
    slice_ = upright(row["image"], row["label"], row["nodules"])
    factor = max(1, _TILE_PX // max(slice_.image.shape))
    if kind is Kind.SAMPLES:
        caption = f"sample {row['sample_id']}"
    else:
        caption = f"...{row['series_uid'][-12:]}, slice {row['slice_index']}, subset {row['subset']}"
    turned = "stored turned by 180 degrees" if slice_.turned else ""
    return [
        slice_tile(slice_.image, slice_.label, caption, window_hu=LUNG_WINDOW_HU),
        slice_tile(slice_.image, slice_.label, turned, window_hu=SOFT_TISSUE_WINDOW_HU),
        map_tile(slice_.label, nodule_words(slice_.label, slice_.nodules)),
        Tile(
            render_overlay(
                slice_.image, slice_.label, slice_.nodules, factor=factor, window_hu=LUNG_WINDOW_HU
            )
        ),
    ]

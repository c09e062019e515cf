"""The trachea and the main bronchi, followed from the top of a scan downwards."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LUMEN_HU = -800
"""Air in an airway is darker than this, its partly filled rim apart."""

_IN_PLANE = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))], bool)
"""Neighbours within a slice only."""

_MEAN_HU = -880
"""The lumen of a trachea on the whole is darker than this, its rim included."""
_SMALLEST_MM2 = 25.0
_LARGEST_MM2 = 1500.0
"""A trachea is 13 to 27 mm wide (Breatnach et al., AJR 1984), and several times that where it parts."""
_TRACHEA_MM2 = 50.0
"""What a start must have at least: smaller pieces are bronchi, or gas in the oesophagus."""
_GROWTH = 1.8
"""An airway this many times as large as in the slice above has run into the lung."""
_WALL_HU = -500
_WALL_AT_START = 0.6
_WALL_BELOW = 0.35
"""At least this part of the ring around an airway is denser than that; around a dark spot of lung is lung."""


@dataclass(frozen=True)
class _Pieces:
    """The pieces of dark air in all slices; piece number n is row n - 1."""

    labels: NDArray[np.int32]
    area_mm2: NDArray[np.floating]
    slice_index: NDArray[np.int64]
    wall: NDArray[np.float64]
    """Which part of the ring around it is tissue."""
    is_tube: NDArray[np.bool_]
    """Whether its cross-section may be that of a trachea or main bronchus."""


def find_airways(
    hu: NDArray[np.int16], body: NDArray[np.bool_], spacing_mm: tuple[float, float], top_down: range
) -> NDArray[np.bool_]:
    """Find the trachea and the main bronchi, as far as they can be told from the lungs.

    Args:
        hu: Hounsfield units, shape [Z, H, W].
        body: The body with its holes filled, same shape.
        spacing_mm: Distance of pixels within a slice: row, column.
        top_down: The slice indices from the head to the feet.

    Returns:
        Same shape; all false where no airway was found.
    """
    pieces = _find_pieces(hu, body, spacing_mm)
    best: list[int] = []
    best_mm2 = 0.0
    position = 0
    while position < len(top_down):
        start = _start(pieces, top_down[position])
        chain, last = _follow(pieces, start, top_down, position)
        volume = float(pieces.area_mm2[[piece - 1 for piece in chain]].sum())
        if last - position + 1 >= min(3, len(top_down)) and volume > best_mm2:
            best, best_mm2 = chain, volume
        position = last + 1
    chosen = np.zeros(len(pieces.area_mm2) + 1, bool)
    chosen[best] = True
    return chosen[pieces.labels]


def _find_pieces(hu: NDArray[np.int16], body: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> _Pieces:
    lumen = (hu < LUMEN_HU) & body
    labels, count = ndimage.label(lumen, _IN_PLANE)
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    dark = np.flatnonzero(labels)
    owner = labels.ravel()[dark] - 1
    number = np.bincount(owner, minlength=count)
    area = number * pixel_mm2
    mean = np.bincount(owner, hu.ravel()[dark], count) / number
    boxes = ndimage.find_objects(labels)
    slice_index = np.array([box[0].start for box in boxes], np.int64)
    wall = _wall(hu, labels, boxes)
    is_tube = np.zeros(count, bool)
    frames = [_frame(plane) for plane in body]
    fits = (area >= _SMALLEST_MM2) & (area <= _LARGEST_MM2) & (mean < _MEAN_HU) & (wall >= _WALL_AT_START)
    for piece in np.flatnonzero(fits):
        rows, columns = boxes[piece][1:]
        height_mm = (rows.stop - rows.start) * spacing_mm[0]
        width_mm = (columns.stop - columns.start) * spacing_mm[1]
        slender = area[piece] < 0.1 * max(height_mm, width_mm) ** 2
        top, bottom, left, right = frames[slice_index[piece]]
        down = ((rows.start + rows.stop) / 2 - top) / max(bottom - top, 1)
        across = ((columns.start + columns.stop) / 2 - left) / max(right - left, 1)
        is_tube[piece] = not slender and abs(across - 0.5) < 0.13 and 0.28 < down < 0.72
    return _Pieces(labels, area, slice_index, wall, is_tube)


def _wall(
    hu: NDArray[np.int16], labels: NDArray[np.int32], boxes: list[tuple[slice, ...]]
) -> NDArray[np.float64]:
    """Which part of the ring around each piece is tissue; around a dark part of the lung it is lung."""
    wall = np.zeros(len(boxes))
    for piece, (plane, rows, columns) in enumerate(boxes):
        window = (
            plane.start,
            slice(max(rows.start - 2, 0), rows.stop + 2),
            slice(max(columns.start - 2, 0), columns.stop + 2),
        )
        inside = labels[window] == piece + 1
        near = ndimage.maximum_filter(inside, 3)
        ring = ndimage.maximum_filter(near, 3) & ~near
        wall[piece] = (hu[window][ring] > _WALL_HU).mean() if ring.any() else 0
    return wall


def _frame(plane: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The bounds of the body in a slice: top, bottom, left, right."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _start(pieces: _Pieces, index: int) -> list[int]:
    """The airways of a slice that is seen first: a trachea, or the bronchi below it."""
    tubes = np.flatnonzero(pieces.is_tube & (pieces.slice_index == index))
    if not len(tubes) or pieces.area_mm2[tubes].max() < _TRACHEA_MM2:
        return []
    return [int(tube) + 1 for tube in tubes if pieces.area_mm2[tube] > 0.25 * pieces.area_mm2[tubes].max()]


def _follow(pieces: _Pieces, start: list[int], top_down: range, position: int) -> tuple[list[int], int]:
    """All pieces that hang together from a start downwards, and the position of the last slice."""
    chain = list(start)
    current = start
    while current and position + 1 < len(top_down):
        region = np.isin(pieces.labels[top_down[position]], current)
        below = np.unique(pieces.labels[top_down[position + 1]][region])
        limit = min(
            _LARGEST_MM2, max(200.0, _GROWTH * pieces.area_mm2[[piece - 1 for piece in current]].sum())
        )
        current = [
            int(piece)
            for piece in below
            if piece
            and _SMALLEST_MM2 <= pieces.area_mm2[piece - 1] <= limit
            and pieces.wall[piece - 1] >= _WALL_BELOW
        ]
        if current:
            chain += current
            position += 1
    return chain, position

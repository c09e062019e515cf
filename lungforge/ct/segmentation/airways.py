"""Segmentation of trachea and main bronchi, tracked from the top of a scan downwards."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LUMEN_HU = -800
"""Airway lumen is darker than this, except for its partial-volume rim."""

_IN_PLANE = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))], bool)
"""Structuring element that connects pixels within a slice only."""

_MEAN_HU = -880
"""The mean of a trachea's lumen, rim included, is below this."""
_SMALLEST_MM2 = 25.0
_LARGEST_MM2 = 1500.0
"""A trachea is 13 to 27 mm wide (Breatnach et al., AJR 1984), and several times that at the carina."""
_TRACHEA_MM2 = 50.0
"""Minimum area at the start: smaller components are bronchi, or gas in the oesophagus."""
_GROWTH = 1.8
"""An airway that grows by this factor from one slice to the next has leaked into the lung."""
_WALL_HU = -500
_WALL_AT_START = 0.6
_WALL_BELOW = 0.35
"""Minimum share of the ring around an airway above _WALL_HU; a dark spot of lung is surrounded by lung."""


@dataclass(frozen=True)
class _Components:
    """In-plane components of dark air in all slices; component n is at index n - 1."""

    labels: NDArray[np.int32]
    area_mm2: NDArray[np.floating]
    slice_index: NDArray[np.int64]
    wall: NDArray[np.float64]
    """Share of tissue in the ring around the component."""
    is_tube: NDArray[np.bool_]
    """Whether the cross-section may be that of a trachea or main bronchus."""


def segment_airways(
    hu: NDArray[np.int16], body: NDArray[np.bool_], spacing_mm: tuple[float, float], top_down: range
) -> NDArray[np.bool_]:
    """Segment the trachea and the main bronchi, as far as they are distinct from the lungs.

    Args:
        hu: Hounsfield units, shape [Z, H, W].
        body: The body with its holes filled, same shape.
        spacing_mm: Pixel spacing (row, column).
        top_down: The slice indices from the head to the feet.

    Returns:
        Mask of the same shape; empty if there is no airway.
    """
    components = _dark_components(hu, body, spacing_mm)
    best: list[int] = []
    best_mm2 = 0.0
    position = 0
    while position < len(top_down):
        start = _start(components, top_down[position])
        chain, last = _follow(components, start, top_down, position)
        volume = float(components.area_mm2[[component - 1 for component in chain]].sum())
        if last - position + 1 >= min(3, len(top_down)) and volume > best_mm2:
            best, best_mm2 = chain, volume
        position = last + 1
    chosen = np.zeros(len(components.area_mm2) + 1, bool)
    chosen[best] = True
    return chosen[components.labels]


def _dark_components(
    hu: NDArray[np.int16], body: NDArray[np.bool_], spacing_mm: tuple[float, float]
) -> _Components:
    lumen = (hu < LUMEN_HU) & body
    labels, count = ndimage.label(lumen, _IN_PLANE)
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    dark = np.flatnonzero(labels)
    owner = labels.ravel()[dark] - 1
    pixels = np.bincount(owner, minlength=count)
    area = pixels * pixel_mm2
    mean = np.bincount(owner, hu.ravel()[dark], count) / pixels
    boxes = ndimage.find_objects(labels)
    slice_index = np.array([box[0].start for box in boxes], np.int64)
    wall = _wall(hu, labels, boxes)
    is_tube = np.zeros(count, bool)
    frames = [_frame(plane) for plane in body]
    fits = (area >= _SMALLEST_MM2) & (area <= _LARGEST_MM2) & (mean < _MEAN_HU) & (wall >= _WALL_AT_START)
    for component in np.flatnonzero(fits):
        rows, columns = boxes[component][1:]
        height_mm = (rows.stop - rows.start) * spacing_mm[0]
        width_mm = (columns.stop - columns.start) * spacing_mm[1]
        slender = area[component] < 0.1 * max(height_mm, width_mm) ** 2
        top, bottom, left, right = frames[slice_index[component]]
        down = ((rows.start + rows.stop) / 2 - top) / max(bottom - top, 1)
        across = ((columns.start + columns.stop) / 2 - left) / max(right - left, 1)
        is_tube[component] = not slender and abs(across - 0.5) < 0.13 and 0.28 < down < 0.72
    return _Components(labels, area, slice_index, wall, is_tube)


def _wall(
    hu: NDArray[np.int16], labels: NDArray[np.int32], boxes: list[tuple[slice, ...]]
) -> NDArray[np.float64]:
    """Share of tissue in the ring around each component."""
    wall = np.zeros(len(boxes))
    for component, (plane, rows, columns) in enumerate(boxes):
        window = (
            plane.start,
            slice(max(rows.start - 2, 0), rows.stop + 2),
            slice(max(columns.start - 2, 0), columns.stop + 2),
        )
        inside = labels[window] == component + 1
        near = ndimage.maximum_filter(inside, 3)
        ring = ndimage.maximum_filter(near, 3) & ~near
        wall[component] = (hu[window][ring] > _WALL_HU).mean() if ring.any() else 0
    return wall


def _frame(plane: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Bounds of the body in a slice: top, bottom, left, right."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _start(components: _Components, index: int) -> list[int]:
    """Components to start tracking from in a slice: a trachea, or the bronchi below it."""
    tubes = np.flatnonzero(components.is_tube & (components.slice_index == index))
    if not len(tubes) or components.area_mm2[tubes].max() < _TRACHEA_MM2:
        return []
    return [
        int(tube) + 1 for tube in tubes if components.area_mm2[tube] > 0.25 * components.area_mm2[tubes].max()
    ]


def _follow(
    components: _Components, start: list[int], top_down: range, position: int
) -> tuple[list[int], int]:
    """All components connected to the start downwards, and the position of the last slice."""
    chain = list(start)
    current = start
    while current and position + 1 < len(top_down):
        region = np.isin(components.labels[top_down[position]], current)
        below = np.unique(components.labels[top_down[position + 1]][region])
        limit = min(
            _LARGEST_MM2,
            max(200.0, _GROWTH * components.area_mm2[[component - 1 for component in current]].sum()),
        )
        current = [
            int(component)
            for component in below
            if component
            and _SMALLEST_MM2 <= components.area_mm2[component - 1] <= limit
            and components.wall[component - 1] >= _WALL_BELOW
        ]
        if current:
            chain += current
            position += 1
    return chain, position

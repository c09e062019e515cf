"""Resampling of slices, maps and nodules by one pixel mapping.

Pixel centres are at integers, so a pixel extends half a pixel to each side: a point at ``p`` in the source
lies at ``(p + 0.5) * scale - 0.5 + offset`` in the result.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lungforge.ct.classes import BACKGROUND, COUNT
from lungforge.ct.label_map import label_map
from lungforge.ct.nodules import SliceNodule
from lungforge.ct.window import AIR_HU
from lungforge.errors import InputError

_SHARES = 2.0**16
"""Resolution of the area shares that classes are compared by."""


@dataclass(frozen=True)
class PixelMap:
    """Mapping of a slice's pixels to those of its resampled image; pairs are (row, column)."""

    source_shape: tuple[int, int]
    """H, W of the slice."""
    shape: tuple[int, int]
    """H, W of the result."""
    scale: tuple[float, float]
    """Pixels of the result per pixel of the slice."""
    offset: tuple[float, float]
    """Position of the slice's corner in the result, in pixels from the corner of the result."""
    spacing_mm: tuple[float, float]
    """Distance between pixel centres in the result."""

    @classmethod
    def fit(
        cls,
        source_shape: tuple[int, int],
        source_spacing_mm: tuple[float, float],
        *,
        size: int | None = None,
        spacing_mm: float | None = None,
    ) -> "PixelMap":
        """The mapping to a given size, a given spacing, or both.

        Args:
            source_shape: H, W of the slice.
            source_spacing_mm: Its spacing (row, column).
            size: Rows and columns of the result. Without ``spacing_mm``, the whole slice is scaled to it.
            spacing_mm: Spacing of the result. With ``size``, the result is cropped or padded around its
                centre; without, the result covers the whole slice.

        Raises:
            InputError: The size is below 1 or the spacing is not positive.
        """
        if size is not None and size < 1:
            raise InputError(f"size is {size}; it must be at least 1 pixel")
        if spacing_mm is not None and not (math.isfinite(spacing_mm) and spacing_mm > 0):
            raise InputError(f"spacing_mm is {spacing_mm}; it must be positive")
        height, width = source_shape
        if spacing_mm is None:
            shape = source_shape if size is None else (size, size)
            scale = (shape[0] / height, shape[1] / width)
            spacing = (source_spacing_mm[0] / scale[0], source_spacing_mm[1] / scale[1])
            return cls(source_shape, shape, scale, (0.0, 0.0), spacing)
        scale = (source_spacing_mm[0] / spacing_mm, source_spacing_mm[1] / spacing_mm)
        whole = (max(round(height * scale[0]), 1), max(round(width * scale[1]), 1))
        shape = whole if size is None else (size, size)
        offset = ((shape[0] - height * scale[0]) / 2, (shape[1] - width * scale[1]) / 2)
        return cls(source_shape, shape, scale, offset, (spacing_mm, spacing_mm))

    @property
    def is_identity(self) -> bool:
        """Whether the mapping changes nothing."""
        return self.shape == self.source_shape and self.scale == (1.0, 1.0) and self.offset == (0.0, 0.0)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Map a point (x = column, y = row) of the slice to the result."""
        return (
            (x + 0.5) * self.scale[1] - 0.5 + self.offset[1],
            (y + 0.5) * self.scale[0] - 0.5 + self.offset[0],
        )

    def length(self, pixels: float) -> float:
        """Map a length of the slice to the result, by the geometric mean of the two scales."""
        return pixels * math.sqrt(self.scale[0] * self.scale[1])


def resize_slice(
    hu: NDArray[np.int16], anatomy: NDArray[np.uint8], nodules: Sequence[SliceNodule], pixel_map: PixelMap
) -> tuple[NDArray[np.int16], NDArray[np.uint8], list[SliceNodule]]:
    """Resample a slice and its map; no nodule inside the image is lost.

    Args:
        hu: Shape [H, W], in HU.
        anatomy: Classes without nodules, shape [H, W].
        nodules: Nodules of the slice.
        pixel_map: The mapping, for a source of this shape.

    Returns:
        Image in HU and label map of classes 0-5, both of the mapping's shape; and the nodules in pixels of
        the result, without those that have no pixel there. A nodule cut by the edge is kept, even if its
        centre lies outside.
    """
    resized = [kept for nodule in nodules if (kept := resize_nodule(nodule, pixel_map)) is not None]
    label = label_map(resize_anatomy(anatomy, pixel_map), [nodule.mask for nodule in resized])
    return resize_image(hu, pixel_map), label, resized


def resize_image(hu: NDArray[np.int16], pixel_map: PixelMap) -> NDArray[np.int16]:
    """Resample a slice: area averaging when downsampling, bilinear interpolation when upsampling.

    Args:
        hu: Shape [H, W], in HU.
        pixel_map: The mapping, for a source of this shape.

    Returns:
        The mapping's shape, rounded to whole HU, padded with air.
    """
    _check_shape(hu, pixel_map)
    if pixel_map.is_identity:
        return hu.copy()
    rows, columns = (_image_weights(*axis) for axis in _axes(pixel_map))
    # Weights sum to less than one for pixels across the edge; relative to air, the rest is air.
    relative = hu.astype(np.float32) - AIR_HU
    return np.rint(_apply(rows, columns, relative) + AIR_HU).astype(np.int16)


def resize_anatomy(anatomy: NDArray[np.uint8], pixel_map: PixelMap) -> NDArray[np.uint8]:
    """Resample classes: each pixel gets the class with the largest share of its area.

    Args:
        anatomy: Classes 0-5, shape [H, W].
        pixel_map: The mapping, for a source of this shape.

    Returns:
        The mapping's shape, padded with background. Ties go to the lower class.
    """
    _check_shape(anatomy, pixel_map)
    if pixel_map.is_identity:
        return anatomy.copy()
    rows, columns = (_area_weights(*axis) for axis in _axes(pixel_map))
    past_the_edge = 1 - np.outer(_sums(rows), _sums(columns))
    best = np.zeros(pixel_map.shape, np.float32)
    for value in sorted({BACKGROUND, *np.flatnonzero(np.bincount(anatomy.ravel())).tolist()}):
        share = _apply(rows, columns, (anatomy == value).astype(np.float32))
        if value == BACKGROUND:
            share += past_the_edge
        # The class is encoded in the lowest digit, so that one maximum finds share and class; floats below
        # 2**24 are exact. Rounding the shares keeps summation errors from breaking ties.
        np.maximum(best, np.rint(share * _SHARES) * COUNT + (COUNT - 1 - value), out=best)
    return (COUNT - 1 - best % COUNT).astype(np.uint8)


def resize_nodule(nodule: SliceNodule, pixel_map: PixelMap) -> SliceNodule | None:
    """Resample a nodule so that it keeps its area (at least one pixel) and stays connected.

    Pixels of the result are added outwards from the middle of the nodule, most covered first, until they
    match its area.

    Args:
        nodule: The nodule in pixels of the slice.
        pixel_map: The mapping, for a source of the mask's shape.

    Returns:
        The nodule in pixels of the result; None if it lies outside.
    """
    _check_shape(nodule.mask, pixel_map)
    rows, columns = np.flatnonzero(nodule.mask.any(axis=1)), np.flatnonzero(nodule.mask.any(axis=0))
    # Coverage is computed around the nodule only; nodules are small.
    (row_start, row_weights), (column_start, column_weights) = (
        _near_weights(axis, int(touched[0]), int(touched[-1]) + 1)
        for axis, touched in zip(_axes(pixel_map), (rows, columns), strict=True)
    )
    part = nodule.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    coverage = row_weights @ part @ column_weights.T
    if coverage.max(initial=0) < 1e-6:
        return None
    mask = np.zeros(pixel_map.shape, bool)
    height, width = coverage.shape
    mask[row_start : row_start + height, column_start : column_start + width] = _take_most_covered(coverage)
    x, y = pixel_map.point(nodule.x, nodule.y)
    return replace(nodule, x=x, y=y, diameter_px=pixel_map.length(nodule.diameter_px), mask=mask)


def _take_most_covered(coverage: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Select as many pixels as the coverage sums to, at least one, outwards from the middle by coverage."""
    wanted = max(round(float(coverage.sum())), 1)
    rows, columns = np.indices(coverage.shape)
    middle = [(coverage * index).sum() / coverage.sum() for index in (rows, columns)]
    distance = np.hypot(rows - middle[0], columns - middle[1])
    # Rounded, as sums of areas differ in their last bits: equally covered pixels are ordered by distance.
    merit = [
        list(zip((-row).tolist(), away.tolist(), strict=True))
        for row, away in zip(coverage.round(6), distance.round(6), strict=True)
    ]
    covered = coverage > 1e-6
    taken = np.zeros(coverage.shape, bool)
    height, width = coverage.shape
    queue: list[tuple[tuple[float, float], int, int]] = []
    queued = np.zeros(coverage.shape, bool)
    count = 0
    # The queue runs empty between the components of a disconnected nodule.
    for start in sorted(zip(*np.nonzero(covered), strict=True), key=lambda at: merit[at[0]][at[1]]):
        row, column = int(start[0]), int(start[1])
        if queued[row, column]:
            continue
        queued[row, column] = True
        queue.append((merit[row][column], row, column))
        while queue and count < wanted:
            _, row, column = heapq.heappop(queue)
            taken[row, column] = True
            count += 1
            for near_row in range(max(row - 1, 0), min(row + 2, height)):
                for near_column in range(max(column - 1, 0), min(column + 2, width)):
                    if covered[near_row, near_column] and not queued[near_row, near_column]:
                        queued[near_row, near_column] = True
                        heapq.heappush(queue, (merit[near_row][near_column], near_row, near_column))
        if count == wanted:
            break
    return taken


Axis = tuple[int, int, float, float]
"""One axis: pixels of the slice, pixels of the result, scale, offset."""


def _axes(pixel_map: PixelMap) -> tuple[Axis, Axis]:
    rows, columns = zip(
        pixel_map.source_shape, pixel_map.shape, pixel_map.scale, pixel_map.offset, strict=True
    )
    return rows, columns


def _overlap(axis: Axis, first: int, last: int) -> NDArray[np.float64]:
    """Share of each result pixel covered by each source pixel first..last-1: [result, last - first]."""
    _, count, scale, offset = axis
    edges = np.arange(first, last + 1) * scale + offset
    start = np.arange(count)[:, None]
    return np.clip(np.minimum(edges[1:], start + 1) - np.maximum(edges[:-1], start), 0, None)


def _near_weights(axis: Axis, first: int, last: int) -> tuple[int, NDArray[np.float64]]:
    """Index of the first nonzero row of the overlap, and the rows from the first to the last nonzero one."""
    overlap = _overlap(axis, first, last)
    reached = np.flatnonzero(overlap.any(axis=1))
    if reached.size == 0:
        return 0, overlap[:0]
    return int(reached[0]), overlap[reached[0] : reached[-1] + 1]


@lru_cache(maxsize=64)
def _area_weights(source: int, count: int, scale: float, offset: float) -> sparse.csr_array:
    return sparse.csr_array(_overlap((source, count, scale, offset), 0, source).astype(np.float32))


@lru_cache(maxsize=64)
def _image_weights(source: int, count: int, scale: float, offset: float) -> sparse.csr_array:
    if scale <= 1:
        return _area_weights(source, count, scale, offset)
    position = (np.arange(count) + 0.5 - offset) / scale - 0.5
    inside = (position >= -0.5) & (position <= source - 0.5)
    distance = np.abs(np.clip(position, 0, source - 1)[:, None] - np.arange(source))
    return sparse.csr_array((np.clip(1 - distance, 0, None) * inside[:, None]).astype(np.float32))


def _apply(
    rows: sparse.csr_array, columns: sparse.csr_array, image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply weights to the rows, then to the columns, of an image [H, W]."""
    return (columns @ (rows @ image).T).T


def _sums(weights: sparse.csr_array) -> NDArray[np.float32]:
    return np.asarray(weights.sum(axis=1)).ravel()


def _check_shape(image: NDArray[np.generic], pixel_map: PixelMap) -> None:
    assert image.shape == pixel_map.source_shape, f"mapping of {pixel_map.source_shape}, image {image.shape}"

"""Nodules of a volume: annotated spheres, their discs in slices, and refinement of discs by intensity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lungforge.ct.boxes import bounding_box
from lungforge.ct.classes import NODULE
from lungforge.ct.geometry import Geometry
from lungforge.ct.io.luna16_tables import (
    Annotation,
    Candidate,
    outside_reason,
    read_annotations,
    read_candidates,
)
from lungforge.ct.window import WINDOW_HU

__all__ = [
    "Annotation",
    "Box",
    "Candidate",
    "Nodule",
    "SliceNodule",
    "nearest_nodules",
    "nodule_boxes",
    "nodule_masks",
    "nodules_in_slice",
    "read_annotations",
    "read_candidates",
    "refine_by_intensity",
    "sphere_nodules",
]

Box = tuple[float, float, float, float]
"""Left, top, width and height in px; the left edge of the first column is 0."""

_DILATION = np.ones((5, 5), bool)
"""How far refinement may extend a nodule beyond its annotated disc (5x5, as in the published study)."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Nodule:
    """A nodule of a volume, and its pixels in each slice."""

    centre: tuple[float, float, float]
    """Index point (x, y, z) in the volume, not rounded."""
    diameter_mm: float
    """Annotated diameter of the whole nodule."""
    masks: Mapping[int, NDArray[np.bool_]]
    """Slice index to the nodule's pixels in it, shape [H, W], never empty."""
    outlined: bool = False
    """Whether the masks come from readers' outlines; else they are discs of a sphere."""

    @property
    def centre_slice(self) -> int | None:
        """The slice with nodule pixels that is nearest to the centre; None if there is none."""
        return min(self.masks, key=lambda index: (abs(index - self.centre[2]), index), default=None)


@dataclass(frozen=True)
class SliceNodule:
    """A nodule in one slice."""

    x: float
    """Column of the nodule's centre, projected onto the slice, in pixels of this image."""
    y: float
    """Row of the same point."""
    diameter_px: float
    """``diameter_mm`` in pixels of this image, by the geometric mean of the row and column spacing."""
    diameter_mm: float
    """Diameter of the whole nodule; a slice away from its centre shows a smaller disc."""
    mask: NDArray[np.bool_]
    """Pixels of the nodule, shape [H, W]."""

    def row(self) -> dict[str, float]:
        """The nodule as an entry of the column ``nodules``."""
        return {"x": self.x, "y": self.y, "diameter_px": self.diameter_px, "diameter_mm": self.diameter_mm}


def nodule_rows(nodules: Iterable[SliceNodule], shape: tuple[int, int]) -> list[dict[str, float]]:
    """The entries of the column ``nodules``: a nodule that the edge cuts is listed only with its centre.

    Args:
        nodules: Of an image.
        shape: Height and width of the image.
    """
    height, width = shape
    return [
        nodule.row()
        for nodule in nodules
        if -0.5 <= nodule.x <= width - 0.5 and -0.5 <= nodule.y <= height - 0.5
    ]


def sphere_nodules(annotations: Iterable[Annotation], geometry: Geometry) -> tuple[list[Nodule], list[str]]:
    """Intersect annotated spheres with the slices of a volume.

    The disc of a slice holds the pixels whose centres lie within the radius of the annotated centre, in mm.
    The voxel nearest to the centre always belongs to the nodule, however small it is. A sphere may reach into
    the volume from outside, as a volume may be a stack of slices of a scan.

    Args:
        annotations: Nodules of this volume.
        geometry: Geometry of the volume.

    Returns:
        The nodules that intersect the volume, in the given order; and one message for each other nodule,
        with its position.
    """
    nodules, outside = [], []
    for annotation in annotations:
        centre = geometry.world_to_index(annotation.point_mm)
        masks = _discs(centre, annotation.diameter_mm / 2, geometry)
        if masks:
            x, y, z = centre.tolist()
            nodules.append(Nodule((x, y, z), annotation.diameter_mm, masks))
        else:
            outside.append(outside_reason(annotation, geometry))
    return nodules, outside


def nodules_in_slice(
    nodules: Iterable[Nodule], slice_index: int, hu: NDArray[np.int16], geometry: Geometry
) -> list[SliceNodule]:
    """Nodules in a slice, in the given order; discs of spheres are refined by intensity.

    Args:
        nodules: Nodules of the volume.
        slice_index: Index of the slice.
        hu: The slice, shape [H, W], in HU.
        geometry: Geometry of the volume.
    """
    pixel_mm = float(np.sqrt(geometry.spacing_mm[0] * geometry.spacing_mm[1]))
    present = []
    for nodule in nodules:
        mask = nodule.masks.get(slice_index)
        if mask is not None:
            if not nodule.outlined:
                mask = refine_by_intensity(mask, hu)
            x, y, _ = nodule.centre
            present.append(SliceNodule(x, y, nodule.diameter_mm / pixel_mm, nodule.diameter_mm, mask))
    return present


def refine_by_intensity(disc: NDArray[np.bool_], hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Refine a disc by intensity: keep the brighter part of the disc dilated by 5x5.

    The pixels of the dilated disc are split by two-means on their windowed intensity, and the connected
    components of the brighter class that touch the disc are kept. If all pixels are equal, or none is left,
    the disc is returned unchanged.

    Args:
        disc: Shape [H, W], not empty.
        hu: The slice, shape [H, W], in HU.

    Returns:
        Shape [H, W], not empty, within the disc dilated by 5x5.
    """
    box = bounding_box(disc, (2, 2))
    disc_in_box = disc[box]
    near = ndimage.binary_dilation(disc_in_box, _DILATION)
    intensity = np.clip(hu[box], *WINDOW_HU)
    threshold = two_means_threshold(intensity[near])
    if threshold is None:
        return disc.copy()
    parts, _ = ndimage.label(near & (intensity > threshold), _EIGHT_NEIGHBOURS)
    touching = np.unique(parts[disc_in_box])
    kept = np.isin(parts, touching[touching > 0])
    if not kept.any():
        return disc.copy()
    refined = np.zeros_like(disc)
    refined[box] = kept
    return refined


def two_means_threshold(values: ArrayLike) -> float | None:
    """The threshold that splits values into two classes with the least within-class variance.

    In one dimension the optimal classes are separated by a threshold, so all splits are tried: the result is
    exact and needs no random start. It is Otsu's threshold without bins (N. Otsu, "A threshold selection
    method from gray-level histograms", 1979).

    Args:
        values: Any shape.

    Returns:
        The midpoint of the two values around the split; None if all values are equal.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=None)
    splits = np.flatnonzero(np.diff(ordered)) + 1
    if splits.size == 0:
        return None
    below = np.cumsum(ordered)[splits - 1]
    above = ordered.sum() - below
    # The within-class variance is least where the between-class variance is greatest.
    between = below**2 / splits + above**2 / (ordered.size - splits)
    best = splits[np.argmax(between)]
    return float((ordered[best - 1] + ordered[best]) / 2)


def _discs(centre: NDArray[np.float64], radius_mm: float, geometry: Geometry) -> dict[int, NDArray[np.bool_]]:
    """Slice index to the pixels inside a sphere."""
    steps_mm = geometry.index_to_world(np.eye(3)) - geometry.origin_mm  # a row: one voxel along one axis
    # In index space the sphere is an ellipsoid; this is its extent along each axis.
    reach = radius_mm * np.linalg.norm(np.linalg.inv(steps_mm), axis=0)
    last = np.asarray(geometry.size) - 1
    low = np.clip(np.ceil(centre - reach), 0, last).astype(int)
    high = np.clip(np.floor(centre + reach), 0, last).astype(int)
    if geometry.contains(centre):
        nearest = np.clip(np.rint(centre), 0, last).astype(int)
        low, high = np.minimum(low, nearest), np.maximum(high, nearest)
    z, y, x = np.mgrid[low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
    inside = (((np.stack([x, y, z], axis=-1) - centre) @ steps_mm) ** 2).sum(axis=-1) <= radius_mm**2
    if geometry.contains(centre):
        inside[tuple((nearest - low)[::-1])] = True
    masks = {}
    for disc, slice_index in zip(inside, range(low[2], high[2] + 1), strict=True):
        if disc.any():
            mask = np.zeros((geometry.size[1], geometry.size[0]), bool)
            mask[low[1] : high[1] + 1, low[0] : high[0] + 1] = disc
            masks[slice_index] = mask
    return masks


def nearest_nodules(
    rows: NDArray[np.intp], columns: NDArray[np.intp], nodules: Sequence[Mapping[str, float]]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Assign each nodule pixel of a slice to the nodule with the nearest centre, relative to its diameter.

    Args:
        rows: Rows of the pixels, shape [N].
        columns: Columns of the pixels, shape [N].
        nodules: Entries of the column ``nodules``: x, y, diameter_px; at least one.

    Returns:
        Index of the nodule of each pixel, and the distance to its centre in px; shape [N] each.
    """
    distances = np.array([np.hypot(columns - nodule["x"], rows - nodule["y"]) for nodule in nodules])
    diameters = np.array([nodule["diameter_px"] for nodule in nodules])
    owner = np.argmin(distances / diameters[:, None], axis=0)
    return owner, np.take_along_axis(distances, owner[None], axis=0)[0]


def nodule_masks(label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]]) -> list[NDArray[np.bool_]]:
    """The pixels of each nodule of a map, assigned as by :func:`nearest_nodules`.

    Args:
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the column ``nodules``: x, y, diameter_px.

    Returns:
        One mask [H, W] per nodule, in the given order; empty for a nodule without pixels in the map. With a
        nodule at all, together they are all nodule pixels.
    """
    masks = [np.zeros(label.shape, bool) for _ in nodules]
    rows, columns = np.nonzero(label == NODULE)
    if masks and len(rows):
        owner, _ = nearest_nodules(rows, columns, nodules)
        for index, mask in enumerate(masks):
            mask[rows[owner == index], columns[owner == index]] = True
    return masks


def nodule_boxes(label: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]]) -> list[Box]:
    """Bounding box of each nodule of a map.

    Pixels are assigned as by :func:`nearest_nodules`. A nodule without pixels in the map gets the bounding
    box of its circle.

    Args:
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the column ``nodules``: x, y, diameter_px.

    Returns:
        One box per nodule, in the given order.
    """
    boxes = []
    for nodule, mask in zip(nodules, nodule_masks(label, nodules), strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            left, top = float(columns.min()), float(rows.min())
            right, bottom = columns.max() + 1.0, rows.max() + 1.0
        else:
            height, width = label.shape
            radius = nodule["diameter_px"] / 2
            left, right = np.clip([nodule["x"] + 0.5 - radius, nodule["x"] + 0.5 + radius], 0, width)
            top, bottom = np.clip([nodule["y"] + 0.5 - radius, nodule["y"] + 0.5 + radius], 0, height)
        boxes.append((float(left), float(top), float(right - left), float(bottom - top)))
    return boxes

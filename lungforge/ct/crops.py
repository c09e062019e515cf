"""Crops around candidates, for nodule classification."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry
from lungforge.ct.io.luna16_tables import Candidate, outside_reason
from lungforge.ct.window import AIR_HU

CROP_SIZE = 32
"""Rows and columns of a crop."""


@dataclass(frozen=True)
class PlacedCandidate:
    """A candidate in voxel coordinates of its volume."""

    slice_index: int
    """Nearest slice."""
    x: float
    """Column, not rounded."""
    y: float
    """Row, not rounded."""
    label: int
    """1 for a nodule, else 0."""


def choose_candidates(
    candidates: Iterable[Candidate], geometry: Geometry, *, seed: int, negatives_per_positive: int = 2
) -> tuple[list[PlacedCandidate], list[str]]:
    """Choose the candidates of a scan to crop: all nodules, and a sample of the negatives.

    A scan contributes at most ``negatives_per_positive`` negatives (class 0) per nodule (class 1), as in the
    published study, and so none if it has no nodule. Negatives are ranked by a hash of seed, series and
    position, so the choice depends neither on the order of the candidates nor on other scans.

    Args:
        candidates: Candidates of one scan.
        geometry: Geometry of the volume.
        seed: Seed of the choice.
        negatives_per_positive: Maximum number of negatives per nodule.

    Returns:
        The chosen candidates, sorted by slice, row, column and label; and one message for each candidate
        outside the volume, with its position.
    """
    inside: dict[int, list[tuple[bytes, PlacedCandidate]]] = {0: [], 1: []}
    outside = []
    # Deduplicated: a table with a repeated position would give the same crop twice.
    for candidate in sorted(
        set(candidates), key=lambda candidate: (candidate.z_mm, candidate.y_mm, candidate.x_mm)
    ):
        index = geometry.world_to_index(candidate.point_mm)
        if not geometry.contains(index):
            outside.append(outside_reason(candidate, geometry))
            continue
        x, y, z = index.tolist()
        slice_index = min(max(round(z), 0), geometry.size[2] - 1)
        identity = f"{seed} {candidate.series_uid} {candidate.point_mm}".encode()
        placed = PlacedCandidate(slice_index, x, y, candidate.label)
        inside[candidate.label].append((hashlib.sha256(identity).digest(), placed))
    negatives = sorted(inside[0], key=lambda entry: entry[0])[: negatives_per_positive * len(inside[1])]
    chosen = [placed for _, placed in (*inside[1], *negatives)]
    return sorted(chosen, key=lambda placed: (placed.slice_index, placed.y, placed.x, placed.label)), outside


def cut_crop(hu: NDArray[np.int16], x: float, y: float, size: int = CROP_SIZE) -> NDArray[np.int16]:
    """Cut a square crop out of a slice, without resampling.

    Args:
        hu: The slice, shape [H, W], in HU.
        x: Column of the centre, within the slice.
        y: Row of the centre, within the slice.
        size: Rows and columns; the pixel nearest to the centre becomes pixel (size // 2, size // 2).

    Returns:
        Shape [size, size], a copy, padded with air beyond the edge of the slice.
    """
    height, width = hu.shape
    top = min(max(round(y), 0), height - 1) - size // 2
    left = min(max(round(x), 0), width - 1) - size // 2
    crop = np.full((size, size), AIR_HU, np.int16)
    rows = slice(max(top, 0), min(top + size, height))
    columns = slice(max(left, 0), min(left + size, width))
    crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = hu[rows, columns]
    return crop

"""Small crops around candidates, for the classification of nodules."""

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
    """A candidate in the voxels of its volume."""

    slice_index: int
    """The slice nearest to it."""
    x: float
    """Its column, not rounded."""
    y: float
    """Its row, not rounded."""
    label: int
    """1 when it is a nodule, else 0."""


def choose_candidates(
    candidates: Iterable[Candidate], geometry: Geometry, *, seed: int, negatives_per_positive: int = 2
) -> tuple[list[PlacedCandidate], list[str]]:
    """Choose the candidates of a scan that are cut out: every nodule, and some of the others.

    A scan gives at most ``negatives_per_positive`` times as many candidates of class 0 as it has of class 1,
    as the published study did; so a scan without nodules gives none. Which ones is decided by a hash of the
    seed, the series and the place of the candidate: it depends neither on the order of the candidates nor on
    other scans.

    Args:
        candidates: Those of one scan.
        geometry: The volume's.
        seed: Another seed chooses others.
        negatives_per_positive: Most candidates of class 0 for one of class 1.

    Returns:
        The chosen ones, sorted by slice, row, column and label; and for each candidate that lies outside the
        volume, a line that says where.
    """
    inside: dict[int, list[tuple[bytes, PlacedCandidate]]] = {0: [], 1: []}
    outside = []
    # Each place once: a table that names one twice would give the same crop twice.
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
    """Cut a square out of a slice, in the slice's own pixels.

    Args:
        hu: The slice, shape [H, W], in HU.
        x: Column of the middle, within the slice.
        y: Row of the middle, within the slice.
        size: Rows and columns; the pixel nearest to the middle becomes pixel (size // 2, size // 2).

    Returns:
        Shape [size, size], a copy; what lies past the slice's edge is air.
    """
    height, width = hu.shape
    top = min(max(round(y), 0), height - 1) - size // 2
    left = min(max(round(x), 0), width - 1) - size // 2
    crop = np.full((size, size), AIR_HU, np.int16)
    rows = slice(max(top, 0), min(top + size, height))
    columns = slice(max(left, 0), min(left + size, width))
    crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = hu[rows, columns]
    return crop

"""Which real slice is an image most like? The search for near-duplicates, in a task that has the pool."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.near_duplicates import Query, Resemblance, nearest, thumbnails
from lungforge.metrics.patch_search import best_positions_on_grids, cell_px
from services.eval.records import Key, RealPool, fetch

#: Real slices that each image is compared with, beside its source: of whole slices, and of patches, which may
#: lie anywhere in them.
NEIGHBOURS, PATCH_NEIGHBOURS = 8, 48
#: No patient has this number.
NOBODY = -1


@dataclasses.dataclass(frozen=True)
class Place:
    """A real slice of the pool, or the part of it that a patch may be a copy of.

    Attributes:
        index: Of the slice.
        corner: Row and column of the part's first pixel; it may begin beyond the edge. (0, 0) for whole
            slices.
    """

    index: int
    corner: tuple[int, int] = (0, 0)


def most_like(
    greys: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    pool: RealPool,
    *,
    sources: Sequence[tuple[Key, tuple[int, int]] | None],
    patients: NDArray[np.int64],
) -> list[tuple[Place, Resemblance] | None]:
    """For each image the place most like it: at its source, or one of the nearest by a coarse search.

    Args:
        greys: The images ``[N, H, W]`` uint8.
        labels: Their maps.
        pool: The real slices.
        sources: The slice whose map each was generated from, and where in it; None for real images.
        patients: The patient whose slices are left out for each, or ``NOBODY``, int64 ``[N]``.

    Returns:
        A place each; None where no slice is left.
    """
    near = (_near if pool.cut is None else _near_patches)(greys, pool, patients)
    results: list[tuple[Place, Resemblance] | None] = []
    for grey, label, source, places in zip(greys, labels, sources, near, strict=True):
        if source is not None and source[0] in pool.indices:
            places = [Place(pool.indices[source[0]], source[1]), *places]
        results.append(_closest(Query.of(grey, label), list(dict.fromkeys(places)), pool))
    return results


def _closest(query: Query, places: Sequence[Place], pool: RealPool) -> tuple[Place, Resemblance] | None:
    if not places:
        return None
    if pool.cut is None:
        textures = [query.whole(*pool.with_map(place.index)) for place in places]
    else:
        within = -(-cell_px(pool.cut.size) // 2)
        textures = []
        for place in places:
            grey, label = pool.with_map(place.index)
            textures.append(query.part_of(grey, label, place.corner, within))
    best, resemblance = query.resemblance(textures)
    return places[best], resemblance


def _near(greys: NDArray[np.uint8], pool: RealPool, patients: NDArray[np.int64]) -> list[list[Place]]:
    results = []
    for thumbnail, patient in zip(thumbnails(greys), patients, strict=True):
        allowed = np.flatnonzero(pool.patients != patient)
        others = pool.thumbnails if len(allowed) == len(pool.keys) else pool.thumbnails[allowed]
        found = allowed[nearest(thumbnail, others, NEIGHBOURS, min(greys.shape[1:]))]
        results.append([Place(index) for index in found.tolist()])
    return results


def _near_patches(greys: NDArray[np.uint8], pool: RealPool, patients: NDArray[np.int64]) -> list[list[Place]]:
    """The best position in each slice, of the slices where that is most like the patch."""
    assert pool.cut is not None
    size = pool.cut.size
    found: list[list[tuple[float, Place]]] = [[] for _ in greys]
    first = 0
    for reference in pool.cells:
        slices = fetch(reference)
        correlations, corners = best_positions_on_grids(greys, slices, size)
        here = pool.patients[first : first + len(slices)]
        for row, patient in enumerate(patients.tolist()):
            allowed = np.flatnonzero((here != patient) & (correlations[row] > -1))
            found[row] += [
                (-float(correlations[row, index]), Place(first + index, tuple(corners[row, index].tolist())))
                for index in allowed.tolist()
            ]
            # Only the best are kept, so that memory does not grow with the pool.
            found[row] = sorted(found[row], key=lambda one: (one[0], one[1].index))[:PATCH_NEIGHBOURS]
        first += len(slices)
    return [[place for _, place in best] for best in found]

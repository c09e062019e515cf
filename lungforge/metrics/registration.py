"""Registration of textures: how like are two once one is mirrored, turned, enlarged and shifted a little?

The grid of all mirror images, rotations, zooms and whole shifts is compared by matrix products; from the
best of them, least squares finds the rest of a pixel (Lucas and Kanade 1981; Baker and Matthews 2004).
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lungforge.metrics.interpolation import interpolated
from lungforge.metrics.partial_correlation import pearson
from lungforge.metrics.textures import LEAST_LEVELS, reduce

#: The grid. A copy between two of its points still correlates; least squares does the rest.
ROTATIONS_DEGREES: Final = (-3.0, -1.5, 0.0, 1.5, 3.0)
ZOOMS: Final = (0.97, 1.0, 1.03)
#: Least squares may end this far beyond the grid, in degrees, of the zoom, and in grid pixels.
_BEYOND_DEGREES, _BEYOND_ZOOM, _BEYOND_SHIFT = 1.0, 0.02, 1.0
#: From so many pixels a side on, the grid is compared at half of them.
_HALVED_FROM: Final = 96
_STEPS: Final = 4


@dataclass(frozen=True)
class Alignment:
    """What brings a real image onto a synthetic one.

    It is mirrored first, then turned and enlarged about its centre, then moved.

    Attributes:
        correlation: Of the textures, -1 to 1.
        mirrored: Whether left and right are swapped.
        rotation_degrees: Counter-clockwise as the image is seen.
        zoom: Above 1: enlarged.
        down: Shift, in pixels of the textures.
        right: Shift, in pixels of the textures.
    """

    correlation: float
    mirrored: bool
    rotation_degrees: float
    zoom: float
    down: float
    right: float


@dataclass(frozen=True)
class Template:
    """A texture made ready to be compared with many.

    Attributes:
        texture: ``[H, W]`` float32.
        region: Where it is compared, bool ``[H, W]``.
        factor: By which it is reduced for the grid.
        views: At each point of the grid, the texture less its mean in the region, and 0 outside,
            ``[V, h * w]``.
        regions: The region at each point, 0 or 1, ``[V, h * w]``.
    """

    texture: NDArray[np.float32]
    region: NDArray[np.bool_]
    factor: int
    views: NDArray[np.float32]
    regions: NDArray[np.float32]

    @functools.cached_property
    def both(self) -> NDArray[np.float32]:
        """The views, and after them the regions, ``[2 V, h * w]``."""
        return np.concatenate([self.views, self.regions])

    @functools.cached_property
    def counts(self) -> NDArray[np.float32]:
        """Pixels of the region at each point of the grid, at least 1, ``[V, 1]``."""
        counts: NDArray[np.float32] = np.maximum(self.regions.sum(axis=1, keepdims=True), 1.0)
        return counts

    @functools.cached_property
    def energies(self) -> NDArray[np.float32]:
        """Sum of squares of each view, ``[V, 1]``."""
        energies: NDArray[np.float32] = (self.views**2).sum(axis=1, keepdims=True)
        return energies

    @functools.cached_property
    def offsets(self) -> NDArray[np.float64]:
        """Row and column of each pixel of the region from the centre, ``[2, P]``."""
        return _offsets(self.texture.shape)[:, self.region.ravel()]

    @classmethod
    def of(cls, texture: NDArray[np.float32], region: NDArray[np.bool_]) -> "Template":
        """Prepare a texture ``[H, W]`` that is compared in a region."""
        factor = 2 if min(texture.shape) >= _HALVED_FROM else 1
        small = reduce(texture, factor)
        inside = (reduce(region, factor) > 0.5).astype(np.float32)
        warp = _grid_warp(small.shape)
        stacked = np.stack([small, small[:, ::-1], inside, inside[:, ::-1]]).reshape(4, -1)
        warped = (warp @ stacked.T).reshape(-1, small.size, 4)
        views = np.concatenate([warped[..., 0], warped[..., 1]])
        regions = (np.concatenate([warped[..., 2], warped[..., 3]]) > 0.5).astype(np.float32)
        counts = np.maximum(regions.sum(axis=1, keepdims=True), 1.0)
        views = (views - (views * regions).sum(axis=1, keepdims=True) / counts) * regions
        return cls(texture, region, factor, views, regions)


def _points() -> list[tuple[float, float]]:
    return list(itertools.product(ROTATIONS_DEGREES, ZOOMS))


def _similarity(rotation_degrees: float, zoom: float) -> NDArray[np.float64]:
    """The matrix that turns and enlarges offsets (row, column) from the centre."""
    angle = np.deg2rad(rotation_degrees)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


@functools.lru_cache(maxsize=8)
def _grid_warp(shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """Bilinear interpolation of an image at all points of the grid, as a matrix ``[V * h * w, h * w]``."""
    offsets = _offsets(shape)
    rows, columns, weights = [], [], []
    for index, (rotation, zoom) in enumerate(_points()):
        inverse = np.linalg.inv(_similarity(rotation, zoom))
        places = inverse @ offsets + _centre(shape)
        low = np.floor(places).astype(int)
        rest = places - low
        for down, right in itertools.product((0, 1), repeat=2):
            row, column = low[0] + down, low[1] + right
            weight = np.where(down, rest[0], 1 - rest[0]) * np.where(right, rest[1], 1 - rest[1])
            inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1]) & (weight > 0)
            rows.append(index * offsets.shape[1] + np.flatnonzero(inside))
            columns.append((row * shape[1] + column)[inside])
            weights.append(weight[inside])
    entries = np.concatenate(weights).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))
    size = shape[0] * shape[1]
    return scipy.sparse.csr_array(entries, shape=(len(_points()) * size, size))


def _centre(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return (np.array(shape[:2], dtype=np.float64)[:, None] - 1) / 2


def _offsets(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Row and column of each pixel from the centre, ``[2, h * w]``."""
    return np.indices(shape).reshape(2, -1) - _centre(shape)


def coarse_alignments(
    template: Template, reals: Sequence[NDArray[np.float32]], reach: int
) -> list[Alignment]:
    """The best point of the grid, over all whole shifts at which the template lies in each real texture.

    Args:
        template: Of the synthetic image.
        reals: The real textures, reduced as the grid is, with ``reach`` pixels around them,
            ``[h + 2 reach, w + 2 reach]`` each.
        reach: The largest shift, in grid pixels.
    """
    height, width = (side // template.factor for side in template.texture.shape)
    windows = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(real, (height, width)).reshape(-1, height * width)
            for real in reals
        ]
    )
    counts, energies = template.counts, template.energies
    products, sums = np.split(template.both @ windows.T, 2)
    others = template.regions @ np.square(windows).T - sums * sums / counts
    least = counts * LEAST_LEVELS**2
    correlations = np.where(
        (energies >= least) & (others >= least),
        products / np.sqrt(np.maximum(energies * others, 1e-12)),
        0.0,
    )
    return [_at_best(template, found, reach) for found in np.split(correlations, len(reals), axis=1)]


def _at_best(template: Template, correlations: NDArray[np.float32], reach: int) -> Alignment:
    """The alignment at the highest of the correlations ``[V, (2 reach + 1) ** 2]``."""
    view, place = divmod(int(correlations.argmax()), correlations.shape[1])
    mirrored, point = divmod(view, len(_points()))
    rotation, zoom = _points()[point]
    down, right = divmod(place, 2 * reach + 1)
    turned = rotation if mirrored else -rotation
    swap = np.array([1.0, -1.0 if mirrored else 1.0])
    moved = swap * [template.factor * float(reach - shift) for shift in (down, right)]
    shift = _similarity(turned, 1 / zoom) @ moved
    return Alignment(
        correlation=float(correlations[view, place]),
        mirrored=bool(mirrored),
        rotation_degrees=turned,
        zoom=1 / zoom,
        down=float(shift[0]),
        right=float(shift[1]),
    )


def refine(template: Template, real: NDArray[np.float32], start: Alignment, reach: int) -> Alignment:
    """Improve an alignment by least squares, at full resolution.

    The synthetic texture is fitted by ``a * real(place) + b``; rotation, zoom and shift of ``place`` follow
    from the gradient of the real texture.

    Args:
        template: Of the synthetic image.
        real: The real texture with a margin around it, ``[H + 2 m, W + 2 n]``.
        start: Where to begin.
        reach: The largest shift of the grid, in grid pixels.

    Returns:
        The best alignment on the way, ``start`` at the worst.
    """
    ours = template.texture[template.region].astype(np.float64)
    layers = np.stack([real, *np.gradient(real)], axis=-1)
    swap = np.array([[1.0], [-1.0 if start.mirrored else 1.0]])
    forward = _similarity(start.rotation_degrees, start.zoom)
    shift = np.array([[start.down], [start.right]])
    best = dataclasses.replace(start, correlation=-1.0)
    for _ in range(_STEPS):
        # The real image is mirrored first, then turned and enlarged, then shifted; so back in this order.
        inner = np.linalg.inv(forward) @ (template.offsets - shift)
        theirs, down, right = interpolated(layers, swap * inner + _centre(real.shape)).T.astype(np.float64)
        rotation = float(np.rad2deg(np.arctan2(forward[1, 0], forward[0, 0])))
        zoom = float(np.sqrt(np.linalg.det(forward)))
        if not _allowed(rotation, zoom, shift, (reach + _BEYOND_SHIFT) * template.factor):
            break
        correlation = pearson(ours, theirs)
        if correlation > best.correlation:
            moved = (float(shift[0, 0]), float(shift[1, 0]))
            best = Alignment(correlation, start.mirrored, rotation, zoom, *moved)
        step = _step(ours, theirs, down, swap[1, 0] * right, inner)
        if step is None:
            break
        move, change = step
        forward = forward @ np.linalg.inv(change)
        shift = shift - forward @ move
    return best


def onto(template: Template, layers: NDArray[np.float32], alignment: Alignment) -> NDArray[np.float32]:
    """What of real images lies on the pixels of a template's region, once they are aligned.

    Args:
        template: Of the synthetic image.
        layers: Real images with a margin around them, ``[L, H + 2 m, W + 2 n]`` float32.
        alignment: Of the real images to the synthetic one.

    Returns:
        ``[L, P]`` float32.
    """
    swap = np.array([[1.0], [-1.0 if alignment.mirrored else 1.0]])
    forward = _similarity(alignment.rotation_degrees, alignment.zoom)
    inner = np.linalg.inv(forward) @ (template.offsets - np.array([[alignment.down], [alignment.right]]))
    return interpolated(np.moveaxis(layers, 0, -1), swap * inner + _centre(layers.shape[1:])).T


def _step(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    down: NDArray[np.float64],
    right: NDArray[np.float64],
    inner: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The shift ``[2, 1]`` and the matrix ``[2, 2]`` that make ``theirs`` more like ``ours``."""
    along, across = down * inner[0] + right * inner[1], right * inner[0] - down * inner[1]
    design = np.stack([theirs, np.ones_like(theirs), down, right, along, across], axis=1)
    fitted = np.linalg.lstsq(design.T @ design, design.T @ ours, rcond=None)[0]
    if fitted[0] <= 0:
        return None
    move_down, move_right, enlarge, turn = fitted[2:] / fitted[0]
    return np.array([[move_down], [move_right]]), np.array([[1 + enlarge, -turn], [turn, 1 + enlarge]])


def _allowed(rotation: float, zoom: float, shift: NDArray[np.float64], reach: float) -> bool:
    """Whether an alignment is no farther than a copy might be moved."""
    return (
        abs(rotation) <= max(ROTATIONS_DEGREES) + _BEYOND_DEGREES
        and min(ZOOMS) - _BEYOND_ZOOM <= zoom <= max(ZOOMS) + _BEYOND_ZOOM
        and float(np.abs(shift).max()) <= reach
    )

"""Near-duplicates: is a synthetic slice a real one, possibly halved and enlarged again?

A generator works from a label map, so its images must agree with the real slice on all that the map holds:
where the body is, where the lungs are, how bright either is. A plain correlation sees mostly that. Here
each class's mean is taken off and pixels near a border between classes are left out; what is compared is the
texture that a map does not hold (vessels, bronchi, noise), and only a copy has the same.
"""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lungforge.ct import classes

#: A near-duplicate's texture correlates with the real one's above this. On real CT, slices halved and
#: enlarged by any common kernel stay above 0.98, slices of different scans below 0.5, and what only follows
#: the map is near 0; 0.995 of the plain grey values is about 0.97 of the texture.
MIN_CORRELATION: Final = 0.95
#: Or it differs by fewer grey levels (of 255) than this in the mean ...
MAX_ERROR_LEVELS: Final = 2.0
#: ... while it still correlates above this: where an image is nearly flat, a small error says nothing.
MIN_CORRELATION_AT_SMALL_ERROR: Final = 0.9

#: Side in pixels of the thumbnails by which the nearest real slices are searched.
THUMBNAIL_SIDE: Final = 32

#: Fewer pixels than this are no texture; the whole body is compared then.
_MIN_PIXELS: Final = 64
#: A real slice with a smaller standard deviation of its texture, in grey levels, has nothing to be copied.
_MIN_TEXTURE_LEVELS: Final = 0.5
#: How far from a patch the slice is looked at, in px.
_MARGIN: Final = 16
_HALVINGS: Final = ("first of two", "second of two", "box", "bilinear", "bicubic", "lanczos")
_ENLARGEMENTS: Final = ("nearest", "bilinear", "bicubic", "lanczos")
_KERNELS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Resemblance:
    """How like a real slice a synthetic one is.

    Attributes:
        error_levels: Mean absolute difference inside the body, grey levels of 255.
        correlation: Of the textures, -1..1.
        view: What was done to the real slice for it: "as it is", or "halved (box), enlarged (bicubic)".
    """

    error_levels: float
    correlation: float
    view: str

    @property
    def is_near_duplicate(self) -> bool:
        """Whether this is too much for an image that was generated from a map."""
        return self.correlation > MIN_CORRELATION or (
            self.error_levels < MAX_ERROR_LEVELS and self.correlation > MIN_CORRELATION_AT_SMALL_ERROR
        )


@dataclass(frozen=True)
class PatchLocation:
    """Where in a slice a patch lies.

    Attributes:
        whole: The slice, ``[H, W]`` uint8 grey.
        corner: Row and column of the patch's first pixel.
    """

    whole: NDArray[np.uint8]
    corner: tuple[int, int]


def resemblance(
    synthetic: NDArray[np.uint8],
    label: NDArray[np.uint8],
    real: NDArray[np.uint8],
    place: PatchLocation | None = None,
) -> Resemblance:
    """Compare a synthetic slice with a real one, as it is and after every way of halving and enlarging it.

    Args:
        synthetic: ``[H, W]`` uint8 grey.
        label: ``[H, W]`` uint8, the map of the synthetic slice.
        real: ``[H', W']`` uint8 grey; brought to ``[H, W]`` first.
        place: Where ``real`` lies, if it is a patch ``[H, W]``: the slice may have been halved before it was
            cut, and its pixels then go by other pairs, and beyond the patch's edges.

    Returns:
        The resemblance of the view that comes closest.
    """
    names, views = _views(_fit(real, synthetic.shape))
    if place is not None:
        more, of_slice = _views_before_the_cut(place, synthetic.shape)
        names, views = names + more, np.concatenate([views, of_slice])
    body = label != classes.BACKGROUND
    if body.sum() < _MIN_PIXELS:
        body = np.ones_like(body)
    inside = synthetic[body].astype(np.float32)
    errors = np.abs(views[:, body] - inside).mean(axis=1)
    correlations = _correlations(synthetic.astype(np.float32), views, label, body)
    best = int(np.argmax(correlations - errors / 255.0))
    return Resemblance(float(errors[best]), float(correlations[best]), names[best])


def thumbnails(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Small pictures ``[N, THUMBNAIL_SIDE**2]`` uint8 of ``grey [N, H, W]`` uint8, to find neighbours by."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = [np.asarray(Image.fromarray(picture).resize(side, Image.Resampling.BOX)) for picture in grey]
    return np.asarray(small, dtype=np.uint8).reshape(len(grey), THUMBNAIL_SIDE**2)


def nearest(some: NDArray[np.uint8], others: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """The closest of the thumbnails ``others [M, S]`` to each of ``some [N, S]``.

    Returns:
        Indices ``[N, min(count, M)]`` into ``others``, the closest first.
    """
    x, y = some.astype(np.float32), others.astype(np.float32)
    # The squared distance without the part that is the same for all others.
    distances = (y * y).sum(axis=1) - 2.0 * (x @ y.T)
    return np.argsort(distances, axis=1, kind="stable")[:, :count]


def halve_and_enlarge(grey: NDArray[np.uint8], halving: str, enlargement: str) -> NDArray[np.float32]:
    """A picture ``[H, W]`` at half its size, brought back to its size; float32.

    Args:
        grey: The picture.
        halving: "first of two", "second of two", "box", "bilinear", "bicubic" or "lanczos".
        enlargement: "nearest", "bilinear", "bicubic" or "lanczos".
    """
    rows = _round_trip(grey.shape[0], halving, enlargement)
    columns = _round_trip(grey.shape[1], halving, enlargement)
    return np.clip(rows @ grey.astype(np.float32) @ columns.T, 0.0, 255.0)


@functools.lru_cache(maxsize=64)
def _round_trip(size: int, halving: str, enlargement: str) -> NDArray[np.float32]:
    """The halving and enlarging of a line of ``size`` pixels as a matrix ``[size, size]``."""
    half = max(1, size // 2)
    unit = np.eye(size, dtype=np.float32)
    if halving in ("first of two", "second of two"):
        start = 0 if halving == "first of two" else 1
        shrunk = unit[np.minimum(np.arange(half) * 2 + start, size - 1)]
    else:
        shrunk = np.asarray(Image.fromarray(unit).resize((size, half), _KERNELS[halving]))
    return np.asarray(Image.fromarray(shrunk).resize((size, size), _KERNELS[enlargement]))


def _views(real: NDArray[np.uint8]) -> tuple[list[str], NDArray[np.float32]]:
    """The real slice as it is and after each halving and enlarging: names, and pictures ``[V, H, W]``."""
    names, pictures = ["as it is"], [real.astype(np.float32)]
    for halving in _HALVINGS:
        for enlargement in _ENLARGEMENTS:
            names.append(f"halved ({halving}), enlarged ({enlargement})")
            pictures.append(halve_and_enlarge(real, halving, enlargement))
    return names, np.stack(pictures)


def _views_before_the_cut(
    place: PatchLocation, shape: tuple[int, ...]
) -> tuple[list[str], NDArray[np.float32]]:
    """The patch cut from the slice after each halving and enlarging, but the slice as it is."""
    # No kernel reaches further than the margin; even edges keep the pairs that are halved to one pixel.
    start = [max(0, first - _MARGIN) // 2 * 2 for first in place.corner]
    ends = [(first + side + _MARGIN) // 2 * 2 for first, side in zip(place.corner, shape, strict=True)]
    names, views = _views(place.whole[start[0] : ends[0], start[1] : ends[1]])
    top, left = (first - begin for first, begin in zip(place.corner, start, strict=True))
    patches = views[1:, top : top + shape[0], left : left + shape[1]]
    return [f"slice {name}" for name in names[1:]], patches


def _correlations(
    synthetic: NDArray[np.float32],
    views: NDArray[np.float32],
    label: NDArray[np.uint8],
    body: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Correlation of the synthetic texture with that of each view; 0 where there is no texture."""
    margin = 2 * max(1, min(label.shape) // 128) + 1
    inner = body & (ndimage.minimum_filter(label, size=margin) == ndimage.maximum_filter(label, size=margin))
    region = inner if inner.sum() >= _MIN_PIXELS else body
    kinds = label[region]
    texture = _texture(synthetic[None][:, region], kinds)[0]
    theirs = _texture(views[:, region], kinds)
    norm, their_norms = np.linalg.norm(texture), np.linalg.norm(theirs, axis=1)
    enough = _MIN_TEXTURE_LEVELS * np.sqrt(len(kinds))
    comparable = (norm >= enough) & (their_norms >= enough)
    products = theirs @ texture
    return np.where(comparable, products / np.maximum(norm * their_norms, 1e-9), 0.0)


def _texture(pixels: NDArray[np.float32], kinds: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pixels ``[V, P]`` less the mean of their class."""
    texture = pixels.astype(np.float64)
    for kind in np.unique(kinds):
        texture[:, kinds == kind] -= texture[:, kinds == kind].mean(axis=1, keepdims=True)
    return texture


def _fit(real: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if real.shape == shape:
        return real
    return np.asarray(Image.fromarray(real).resize((shape[1], shape[0]), Image.Resampling.BOX))

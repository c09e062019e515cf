"""Near-duplicates: is a synthetic image a real one, possibly mirrored, moved a little, resized or brightened?

A generator works from a label map, so its images must agree with the real slice on all that the map holds:
where the body is, where the lungs are, how bright either is. What is compared is the texture that a map does
not hold, and only a copy has the same. Before that, the synthetic image is registered to the real one. The
borders of the map reach into the texture: the correlation is a partial one, without what the textures of both
maps explain of either image.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.partial_correlation import correlation_beyond
from lungforge.metrics.registration import (
    Alignment,
    Template,
    coarse_alignments,
    onto,
    refine,
)
from lungforge.metrics.textures import (
    comparable_region,
    map_textures,
    reduce,
    reduction,
    resized,
    resized_all,
    smoothed,
    texture,
)

#: A near-duplicate's texture correlates with the real one's above this, once registered.
MIN_CORRELATION: Final = 0.75
#: Where few pixels lie away from borders, textures agree by chance and by the map: at so many pixels (of the
#: reduced image) and below, the threshold rises to that beside them.
_THRESHOLDS: Final = ((50, 0.98), (150, 0.92), (500, MIN_CORRELATION))
#: Standard deviation of the Gaussian by which textures are smoothed for a second comparison, in their pixels.
_SMOOTHING: Final = 1.0
#: The largest shift that is looked for between whole slices, in pixels of the image.
MAX_SHIFT_PX: Final = 3
#: Side in pixels of the small textures by which similar slices are looked up.
THUMBNAIL_SIDE: Final = 32


@dataclass(frozen=True)
class Resemblance:
    """How like a real image a synthetic one is.

    Attributes:
        correlation: Of the textures once registered, -1 to 1.
        mirrored: Whether the real image is mirrored for it.
        rotation_degrees: By how much it is then turned about its centre, counter-clockwise.
        zoom: How much it is enlarged.
        down_px: How far it is moved down, in px of the image.
        right_px: How far it is moved to the right.
        threshold: The correlation above which it is a near-duplicate.
    """

    correlation: float
    mirrored: bool = False
    rotation_degrees: float = 0.0
    zoom: float = 1.0
    down_px: float = 0.0
    right_px: float = 0.0
    threshold: float = MIN_CORRELATION

    @property
    def is_near_duplicate(self) -> bool:
        """Whether this is too much for an image that was generated from a map."""
        return self.correlation > self.threshold

    @property
    def view(self) -> str:
        """What is done to the real image for it, in words."""
        done = []
        if self.mirrored:
            done.append("mirrored")
        if abs(self.rotation_degrees) >= _LEAST_DEGREES:
            done.append(f"turned by {self.rotation_degrees:.1f}°")
        if abs(self.zoom - 1) >= _LEAST_ZOOM:
            done.append(f"zoomed by {100 * (self.zoom - 1):+.1f} %")
        if max(abs(self.down_px), abs(self.right_px)) >= _LEAST_SHIFT_PX:
            done.append(f"moved by {self.down_px:+.1f} px down, {self.right_px:+.1f} px right")
        return ", ".join(done) or "as it is"


#: Smaller changes are not worth a word.
_LEAST_DEGREES, _LEAST_ZOOM, _LEAST_SHIFT_PX = 0.25, 0.005, 0.25
#: Of the real images that a synthetic one is compared with, how many are registered to less than a pixel.
_REFINED = 3


def threshold(pixels: int) -> float:
    """The correlation above which textures with so many pixels away from borders are near-duplicates.

    Set on slices of LUNA16 so that of those of different scans fewer than 1 in 100 are above it; see
    ``python -m benchmarks.near_duplicates``.
    """
    counts, correlations = zip(*_THRESHOLDS, strict=True)
    return float(np.interp(pixels, counts, correlations))


@dataclass(frozen=True)
class Query:
    """A synthetic image made ready to be compared with real ones.

    Attributes:
        template: Its texture.
        shape: Height and width, in px.
        factor: By which it is reduced before its texture is taken.
        of_map: The texture that its map makes, ``[K, H, W]``.
        threshold: The correlation above which it is a near-duplicate.
    """

    template: Template
    shape: tuple[int, int]
    factor: int
    of_map: NDArray[np.float32]
    threshold: float

    @classmethod
    def of(cls, grey: NDArray[np.uint8], label: NDArray[np.uint8]) -> "Query":
        """Prepare an image ``[H, W]`` uint8 grey, generated from a map ``[H, W]``."""
        factor = reduction(grey.shape)
        region, away = comparable_region(label, factor)
        template = Template.of(texture(reduce(grey, factor)), region)
        shape = (grey.shape[0], grey.shape[1])
        return cls(template, shape, factor, map_textures(label, factor), threshold(away))

    def whole(self, real: NDArray[np.uint8], label: NDArray[np.uint8]) -> "RealTexture":
        """A whole real slice, to be compared with this image; brought to its size.

        Args:
            real: The slice ``[H', W']`` uint8 grey.
            label: Its map.
        """
        height, width = self.template.texture.shape
        factor = reduction(real.shape)
        small = resized(reduce(real, factor), height, width)
        reach = -(-MAX_SHIFT_PX // self._grid_px) + 1
        margin = reach * self.template.factor

        def of_map() -> NDArray[np.float32]:
            layers = resized_all(map_textures(label, factor), height, width)
            return np.pad(layers, ((0, 0), (margin, margin), (margin, margin)))

        return RealTexture(np.pad(texture(small), margin), of_map, reach)

    def part_of(
        self, real: NDArray[np.uint8], label: NDArray[np.uint8], corner: tuple[int, int], within: int
    ) -> "RealTexture":
        """The part of a real slice that this image, a patch, may have been copied from.

        Args:
            real: The slice ``[H', W']`` uint8 grey.
            label: Its map.
            corner: Row and column of the part's first pixel.
            within: How far from there it may be, in px.
        """
        # A pixel more, for what rotation and zoom move; and of few pixels, as far as a shift may go.
        reach = max(MAX_SHIFT_PX, -(-within // self._grid_px) + 1)
        # Beyond what is compared lie the pixels that its texture is also made of.
        margin = reach * self._grid_px + _SUPPORT * self.factor
        rows, columns = (
            np.clip(np.arange(first - margin, first + side + margin), 0, limit - 1)
            for first, side, limit in zip(corner, self._whole_px, real.shape, strict=True)
        )
        place = np.ix_(rows, columns)
        inside = np.s_[..., _SUPPORT:-_SUPPORT, _SUPPORT:-_SUPPORT]
        around = texture(reduce(real[place], self.factor))
        return RealTexture(around[inside], lambda: map_textures(label[place], self.factor)[inside], reach)

    def resemblance(self, real: Sequence["RealTexture"]) -> tuple[int, Resemblance]:
        """Compare with real textures, all of them whole slices or all of them parts.

        Returns:
            The index of the most similar one, and how like it is.
        """
        reduced = [reduce(one.texture, self.template.factor) for one in real]
        coarse = coarse_alignments(self.template, reduced, real[0].reach)
        promising = sorted(range(len(real)), key=lambda index: -coarse[index].correlation)[:_REFINED]
        fine = {index: self._aligned(real[index], coarse[index]) for index in promising}
        best = max(fine, key=lambda index: fine[index].correlation)
        return best, self._described(fine[best])

    def _aligned(self, real: "RealTexture", start: Alignment) -> Alignment:
        """The alignment, with the correlation of what neither map explains."""
        alignment = refine(self.template, real.texture, start, real.reach)
        layers = np.concatenate([real.texture[None], real.of_map()])
        placed = onto(self.template, np.concatenate([layers, smoothed(layers, _SMOOTHING)]), alignment)
        correlations = [
            correlation_beyond(ours[0], theirs[0], np.concatenate([ours[1:], theirs[1:]]))
            for ours, theirs in zip(self.compared, np.split(placed, 2), strict=True)
        ]
        return dataclasses.replace(alignment, correlation=max(correlations))

    @functools.cached_property
    def compared(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """In the region, the image's texture and those of its map, ``[K + 1, P]``.

        As they are; and smoothed, for what a copy lost when it was made smaller and larger again.
        """
        layers = np.concatenate([self.template.texture[None], self.of_map])
        region = self.template.region
        return layers[:, region], smoothed(layers, _SMOOTHING)[:, region]

    def _described(self, alignment: Alignment) -> Resemblance:
        return Resemblance(
            correlation=alignment.correlation,
            mirrored=alignment.mirrored,
            rotation_degrees=alignment.rotation_degrees,
            zoom=alignment.zoom,
            down_px=alignment.down * self.factor,
            right_px=alignment.right * self.factor,
            threshold=self.threshold,
        )

    @property
    def _grid_px(self) -> int:
        """Pixels of the image in one of the grid."""
        return self.factor * self.template.factor

    @property
    def _whole_px(self) -> tuple[int, int]:
        """Height and width, but for a rest that is left out when the image is reduced."""
        return (self.shape[0] // self.factor * self.factor, self.shape[1] // self.factor * self.factor)


@dataclass(frozen=True)
class RealTexture:
    """The texture of a real slice or of a part of it.

    Attributes:
        texture: With a margin around what is compared, ``[H + 2 m, W + 2 m]`` float32.
        of_map: Gives the texture that its map makes, ``[K, H + 2 m, W + 2 m]``; few are asked for it.
        reach: The largest shift that is looked for, in pixels of the grid.
    """

    texture: NDArray[np.float32]
    of_map: Callable[[], NDArray[np.float32]]
    reach: int


#: Pixels on each side that a pixel of the texture is made of.
_SUPPORT: Final = 5


def thumbnails(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Small textures by which similar slices are looked up: ``[N, THUMBNAIL_SIDE ** 2]`` of unit length.

    Args:
        grey: ``[N, H, W]`` uint8.
    """
    textures = texture(reduce(grey, reduction(grey.shape[1:])))
    small = resized_all(textures, THUMBNAIL_SIDE, THUMBNAIL_SIDE).reshape(len(textures), -1)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def nearest(
    thumbnail: NDArray[np.float32], others: NDArray[np.float32], count: int, side: int
) -> NDArray[np.int64]:
    """The slices that an image may be a copy of, whether mirrored and moved by up to ``MAX_SHIFT_PX`` or not.

    Args:
        thumbnail: Of the image, ``[S]``.
        others: Of the slices, ``[M, S]``.
        count: How many are wanted.
        side: Of the image, in px.

    Returns:
        Indices ``[min(count, M)]`` into ``others``, the most similar first.
    """
    reach = -(-MAX_SHIFT_PX * THUMBNAIL_SIDE // side)
    small = thumbnail.reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    moved = [
        np.lib.stride_tricks.sliding_window_view(np.pad(view, reach), small.shape).reshape(-1, small.size)
        for view in (small, small[:, ::-1])
    ]
    similarity = (np.concatenate(moved) @ others.T).max(axis=0)
    return np.argsort(-similarity, kind="stable")[:count]

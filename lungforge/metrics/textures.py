"""The texture of a slice: what no label map holds, and only a copy has the same.

Large structures come from the map, so that every image of one map has them in common; single pixels are noise
and the first to go when an image is resized. Texture (vessels, bronchi, bone) is the band between.
"""

import functools
import itertools
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.boxes import bounding_box

#: Larger images are reduced to at most this many pixels a side before their texture is taken.
LARGEST_SIDE: Final = 128
#: Standard deviations of the two Gaussians whose difference is the band, in pixels of the reduced image.
_FINE, _COARSE = 0.8, 1.6
#: A texture of a smaller standard deviation, in grey levels, holds nothing to be copied.
LEAST_LEVELS: Final = 0.3
#: How strongly classes are painted, in grey levels: below the limit, so that sums stay sums; and the blur.
_PAINTED, _BLUR = 30.0, 1.0
#: Beyond this many grey levels the texture is cut off, so that no bone outweighs everything else.
_HIGHEST_LEVELS: Final = 40.0
#: How far the borders of the map, and of the image, reach into the texture, in pixels of the reduced image.
_MARGIN: Final = 3
#: Fewer pixels than this are no texture.
_MIN_PIXELS: Final = 64
#: Gaussians that make a texture reach so many standard deviations.
_REACH: Final = 3.0

#: Gaussians that are applied one after another: the standard deviation of each, and how many it reaches.
Gaussians: TypeAlias = tuple[tuple[float, float], ...]


def reduction(shape: tuple[int, ...]) -> int:
    """By which whole factor an image of this height and width is reduced before its texture is taken."""
    return max(1, -(-max(shape) // LARGEST_SIDE))


def reduce(image: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Means over squares of ``factor`` pixels, of one image or more ``[..., H, W]``; a rest is left out."""
    height, width = image.shape[-2] // factor, image.shape[-1] // factor
    whole = image[..., : height * factor, : width * factor]
    total = whole[..., ::factor, ::factor].astype(np.float32)
    # Additions of whole images are several times as fast as a mean over two short axes.
    for down, right in list(itertools.product(range(factor), repeat=2))[1:]:
        total += whole[..., down::factor, right::factor].astype(np.float32)
    total *= np.float32(1 / factor**2)
    return total


def texture(grey: NDArray[np.generic]) -> NDArray[np.float32]:
    """The band of an image, or of each of several: the difference of two Gaussians, within limits.

    A constant added to the image leaves it as it is (Marr and Hildreth, Theory of edge detection, 1980).

    Args:
        grey: ``[..., H, W]`` grey levels of 255, already reduced.

    Returns:
        ``[..., H, W]`` float32 grey levels.
    """
    return _band(grey.astype(np.float32), (0, 0), grey.shape[-2:], ())


def map_textures(label: NDArray[np.uint8], factor: int) -> NDArray[np.float32]:
    """The texture that a map alone makes: that of an image painted with one value a class, sharp and blurred.

    Two images of one map share it without either being a copy.

    Args:
        label: The map ``[H, W]``.
        factor: By which the image is reduced.

    Returns:
        ``[2 K, H // factor, W // factor]`` for the K classes of the map but background; every painted image's
        texture is a sum of these.
    """
    shape = label.shape[0] // factor, label.shape[1] // factor
    sharp, blurred = [], []
    for one in range(1, classes.COUNT):
        painted = reduce(label == one, factor)
        if painted.any():
            # Of a lung, most of the image is empty.
            box = bounding_box(painted > 0)
            corner = (box[0].start, box[1].start)
            painted = _PAINTED * painted[box]
            sharp.append(_band(painted, corner, shape, ()))
            blurred.append(_band(painted, corner, shape, ((_BLUR, _REACH),)))
    return np.stack(sharp + blurred) if sharp else np.zeros((0, *shape), dtype=np.float32)


def smoothed(layers: NDArray[np.float32], sigma: float, reach: float = 4.0) -> NDArray[np.float32]:
    """``scipy.ndimage.gaussian_filter`` over the last two axes, of many small images in little time.

    Args:
        layers: ``[..., H, W]``.
        sigma: Standard deviation, in pixels.
        reach: How many of them the filter reaches.
    """
    rows, columns = (_matrix(side, ((sigma, reach),)) for side in layers.shape[-2:])
    return np.asarray(rows @ layers @ columns.T, dtype=np.float32)


def _band(
    pixels: NDArray[np.float32], corner: tuple[int, int], shape: tuple[int, ...], before: Gaussians
) -> NDArray[np.float32]:
    """The difference of the two Gaussians, after others, within limits.

    Args:
        pixels: ``[..., h, w]``, what is not 0 of an image.
        corner: Its first row and column.
        shape: Height and width of the image.
        before: Gaussians that are applied first.
    """
    places = (slice(first, first + side) for first, side in zip(corner, pixels.shape[-2:], strict=True))
    (fine_rows, coarse_rows), (fine_columns, coarse_columns) = (
        [_matrix(side, (*before, (sigma, _REACH)))[:, place] for sigma in (_FINE, _COARSE)]
        for side, place in zip(shape, places, strict=True)
    )
    band = fine_rows @ pixels @ fine_columns.T
    band -= coarse_rows @ pixels @ coarse_columns.T
    return np.clip(band, -_HIGHEST_LEVELS, _HIGHEST_LEVELS)


@functools.lru_cache(maxsize=64)
def _matrix(side: int, gaussians: Gaussians) -> NDArray[np.float32]:
    """What Gaussian filters do along an axis, as a matrix ``[side, side]``: products of small ones are quick.

    Beyond its ends the axis is reflected, as SciPy does it.
    """
    matrix = np.eye(side)
    for sigma, reach in gaussians:
        matrix = ndimage.gaussian_filter1d(matrix, sigma, axis=0, truncate=reach)
    return matrix.astype(np.float32)


def comparable_region(label: NDArray[np.uint8], factor: int) -> tuple[NDArray[np.bool_], int]:
    """Where the texture of an image does not come from its map: in the body, away from all borders.

    Args:
        label: The map ``[H, W]``.
        factor: By which the image is reduced.

    Returns:
        ``[H // factor, W // factor]``; more of the body where that leaves too little, and in the end all of
        it. And how many pixels lie away from all borders.
    """
    size = 2 * _MARGIN * factor + 1
    inner = ndimage.minimum_filter(label, size) == ndimage.maximum_filter(label, size)
    middle = (slice(factor // 2, None, factor),) * 2
    height, width = (side // factor for side in label.shape)
    body, inner = (
        mask[middle][:height, :width]
        for mask in (label != classes.BACKGROUND, inner & (label != classes.BACKGROUND))
    )
    framed = np.zeros((height, width), dtype=bool)
    framed[_MARGIN : height - _MARGIN, _MARGIN : width - _MARGIN] = True
    away = int((inner & framed).sum())
    for region in (inner & framed, body & framed, framed):
        if region.sum() >= _MIN_PIXELS:
            return region, away
    return np.ones((height, width), dtype=bool), away


def resized(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """An image ``[H, W]`` at another size, by the mean over the area of each pixel."""
    if image.shape == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def resized_all(images: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Images ``[N, H, W]``, none included, at another size, each by ``resized``."""
    if images.shape[1:] == (height, width):
        return images
    resized_images = [resized(image, height, width) for image in images]
    return np.stack(resized_images) if resized_images else np.zeros((0, height, width), dtype=np.float32)

"""The texture of a slice: what no label map holds, and only a copy has the same.

Large structures come from the map, so that every image of one map has them in common; single pixels are noise
and the first to go when an image is resized. Texture (vessels, bronchi, bone) is the band between.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lungforge.ct import classes

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


def reduction(shape: tuple[int, ...]) -> int:
    """By which whole factor an image of this height and width is reduced before its texture is taken."""
    return max(1, -(-max(shape) // LARGEST_SIDE))


def reduce(image: NDArray[np.generic], factor: int) -> NDArray[np.float32]:
    """Means over squares of ``factor`` pixels, of one image or more ``[..., H, W]``; a rest is left out."""
    height, width = image.shape[-2] // factor, image.shape[-1] // factor
    whole = image[..., : height * factor, : width * factor].astype(np.float32)
    if factor == 1:
        return whole
    return whole.reshape(*image.shape[:-2], height, factor, width, factor).mean(axis=(-3, -1))


def texture(grey: NDArray[np.generic]) -> NDArray[np.float32]:
    """The band of an image, or of each of several: the difference of two Gaussians, within limits.

    A constant added to the image leaves it as it is (Marr and Hildreth, Theory of edge detection, 1980).

    Args:
        grey: ``[..., H, W]`` grey levels of 255, already reduced.

    Returns:
        ``[..., H, W]`` float32 grey levels.
    """
    pixels = grey.astype(np.float32)
    axes = (pixels.ndim - 2, pixels.ndim - 1)
    fine, coarse = (
        ndimage.gaussian_filter(pixels, sigma, axes=axes, truncate=3.0) for sigma in (_FINE, _COARSE)
    )
    return np.clip(fine - coarse, -_HIGHEST_LEVELS, _HIGHEST_LEVELS)


def map_textures(label: NDArray[np.uint8], factor: int) -> NDArray[np.float32]:
    """The texture that a map alone makes: that of an image painted with one value a class, sharp and blurred.

    Two images of one map share it without either being a copy.

    Args:
        label: The map ``[H, W]``.
        factor: By which the image is reduced.

    Returns:
        ``[2 K, H // factor, W // factor]`` for K classes; every painted image's texture is a sum of these.
    """
    painted = np.stack([reduce(_PAINTED * (label == one), factor) for one in range(1, classes.COUNT)])
    blurred = ndimage.gaussian_filter(painted, _BLUR, axes=(1, 2), truncate=3.0)
    return texture(np.concatenate([painted, blurred]))


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

"""Random nodule outlines: irregular, with the area of the disc of their diameter."""

import math
from dataclasses import replace

import numpy as np

from lungforge.ct.nodules import SliceNodule
from lungforge.ct.resize import PixelMap, resize_nodule

_DIAMETER_PX = 64
"""Diameter of the disc of equal area, before the outline is rasterised in a map."""

_MOST_IRREGULAR = 0.4
"""Maximum relative deviation of the radius from its mean, so that a nodule has no arms."""

_IRREGULARITY = 0.25
"""Standard deviation of the second order's amplitude; higher orders decrease with the square.

At the median, 13% of the pixels then lie outside the disc of equal area, as for LUNA16 nodules inside a lung.
"""


def generate_outline(generator: np.random.Generator) -> SliceNodule:
    """Generate a star-shaped outline whose radius is a low-order Fourier series in the angle.

    Args:
        generator: Decides amplitudes and phases.

    Returns:
        A nodule in fine pixels of unit size; ``diameter_px`` is that of the disc of equal area.
    """
    order = np.arange(2, 6)
    amplitude = generator.normal(size=len(order)) * _IRREGULARITY * (2 / order) ** 2
    amplitude *= min(1.0, _MOST_IRREGULAR / np.abs(amplitude).sum())
    phase = generator.uniform(0, 2 * np.pi, len(order))
    reach = int(np.ceil((1 + _MOST_IRREGULAR) * _DIAMETER_PX / 2)) + 1
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    angle = np.arctan2(down, right)[..., None]
    radius = 1 + (amplitude * np.cos(order * angle + phase)).sum(axis=-1)
    # As many pixels as the disc has: those nearest to the centre relative to the radius at their angle.
    distance = np.hypot(down, right) / radius
    pixels = round(np.pi * _DIAMETER_PX**2 / 4)
    mask = distance <= np.sort(distance, axis=None)[pixels - 1]
    return SliceNodule(reach, reach, _DIAMETER_PX, _DIAMETER_PX, mask)


def rasterise(
    outline: SliceNodule,
    diameter_mm: float,
    spacing_mm: tuple[float, float],
    between_pixels: tuple[float, float],
) -> SliceNodule:
    """Rasterise an outline in the pixels of a map: connected, with the disc's area, at least one pixel.

    Args:
        outline: Outline in fine pixels.
        diameter_mm: Diameter of the disc of equal area.
        spacing_mm: Pixel spacing of the map (row, column).
        between_pixels: Offset of the nodule's centre from a pixel centre, (row, column) in px.

    Returns:
        The nodule, in the smallest mask that holds any outline of this diameter.
    """
    fine_mm = diameter_mm / outline.diameter_px
    scale = (fine_mm / spacing_mm[0], fine_mm / spacing_mm[1])
    height, width = (
        # Odd, so that there is a middle pixel; one more pixel on each side, for the offset of the centre.
        2 * math.ceil(side * factor / 2 + 0.5) + 1
        for side, factor in zip(outline.mask.shape, scale, strict=True)
    )
    # Maps the outline's centre to the middle pixel plus the offset.
    offset = (
        height / 2 + between_pixels[0] - (outline.y + 0.5) * scale[0],
        width / 2 + between_pixels[1] - (outline.x + 0.5) * scale[1],
    )
    rasterised = resize_nodule(
        replace(outline, diameter_mm=diameter_mm),
        PixelMap(outline.mask.shape, (height, width), scale, offset, spacing_mm),
    )
    assert rasterised is not None, "the mask is large enough for the outline"
    return rasterised

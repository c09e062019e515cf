"""Outlines of nodules that are drawn: irregular, and as large as the disc of their diameter."""

import math
from dataclasses import replace

import numpy as np

from lungforge.ct.nodules import SliceNodule
from lungforge.ct.resize import PixelMap, resize_nodule

_DIAMETER_PX = 64
"""Diameter of the disc that has the outline's area, before it is drawn in the pixels of a map."""

_MOST_IRREGULAR = 0.4
"""The radius differs from its mean by at most this share: a nodule has no arms."""

_IRREGULARITY = 0.25
"""Standard deviation of the second order's amplitude; higher orders fall with the square.

At the median 13% of the pixels then lie off the disc of equal area, as of LUNA16's nodules inside a lung.
"""


def draw_outline(generator: np.random.Generator) -> SliceNodule:
    """Draw a star-shaped outline whose radius is a Fourier series of low order in the angle.

    Args:
        generator: Decides amplitudes and phases.

    Returns:
        A nodule in fine pixels of one unit of length; ``diameter_px`` is that of the disc of the same area.
    """
    order = np.arange(2, 6)
    amplitude = generator.normal(size=len(order)) * _IRREGULARITY * (2 / order) ** 2
    amplitude *= min(1.0, _MOST_IRREGULAR / np.abs(amplitude).sum())
    phase = generator.uniform(0, 2 * np.pi, len(order))
    reach = int(np.ceil((1 + _MOST_IRREGULAR) * _DIAMETER_PX / 2)) + 1
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    angle = np.arctan2(down, right)[..., None]
    radius = 1 + (amplitude * np.cos(order * angle + phase)).sum(axis=-1)
    # The pixels nearest to the centre in terms of the radius there, as many as the disc has.
    distance = np.hypot(down, right) / radius
    pixels = round(np.pi * _DIAMETER_PX**2 / 4)
    mask = distance <= np.sort(distance, axis=None)[pixels - 1]
    return SliceNodule(reach, reach, _DIAMETER_PX, _DIAMETER_PX, mask)


def in_pixels(
    outline: SliceNodule,
    diameter_mm: float,
    spacing_mm: tuple[float, float],
    between_pixels: tuple[float, float],
) -> SliceNodule:
    """Draw an outline in the pixels of a map: in one piece, with the disc's area, at least one pixel.

    Args:
        outline: In fine pixels.
        diameter_mm: Of the disc that has the nodule's area.
        spacing_mm: Distance between the map's pixel centres (row, column).
        between_pixels: How far the centre lies from that of a pixel, (row, column) in px.

    Returns:
        The nodule in a mask that is just large enough for any outline of this diameter.
    """
    fine_mm = diameter_mm / outline.diameter_px
    scale = (fine_mm / spacing_mm[0], fine_mm / spacing_mm[1])
    height, width = (
        # Odd, so that a pixel is in the middle; and a pixel more on each side, for a centre beside it.
        2 * math.ceil(side * factor / 2 + 0.5) + 1
        for side, factor in zip(outline.mask.shape, scale, strict=True)
    )
    # So that the outline's middle comes to the middle pixel and what is between.
    offset = (
        height / 2 + between_pixels[0] - (outline.y + 0.5) * scale[0],
        width / 2 + between_pixels[1] - (outline.x + 0.5) * scale[1],
    )
    drawn = resize_nodule(
        replace(outline, diameter_mm=diameter_mm),
        PixelMap(outline.mask.shape, (height, width), scale, offset, spacing_mm),
    )
    assert drawn is not None, "the mask is large enough for the outline"
    return drawn

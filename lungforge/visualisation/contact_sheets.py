"""Rendering of slices and maps: colours, outlines, contact sheets with captions, PNG files.

Images are enlarged by integer factors with nearest neighbours, so nothing is blurred.

A picture is a uint8 array, grey [H, W] or RGB [H, W, 3].
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.orientation import shown
from lungforge.ct.window import WINDOW_HU, hu_to_uint8
from lungforge.visualisation.marks import mark_orientation, write_sizes
from lungforge.visualisation.text import INK, LINE_PX, TEXT_PX, font, text_width, wrapped

HU_OFFSET = 32768
"""Offset of Hounsfield units in 16-bit images, so that every int16 maps to a uint16."""

WINDOW_TEXT = f"window {WINDOW_HU[0]} to {WINDOW_HU[1]} HU"
"""Description of the grey values for captions and footers."""

_COLOURS = np.array(classes.COLOURS, np.uint8)
_PAPER = (24, 24, 28)
_MARGIN = 8


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet."""

    picture: NDArray[np.uint8]
    caption: str = ""
    """Text below the picture; long lines are wrapped between words."""


def render_map(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Render a label map in the colours of its classes.

    Args:
        label: Classes 0-5, shape [H, W].

    Returns:
        Shape [H, W, 3].
    """
    return _COLOURS[label]


def render_overlay(
    hu: NDArray[np.int16],
    label: NDArray[np.uint8],
    nodules: Iterable[Mapping[str, float]] = (),
    *,
    factor: int = 1,
    window_hu: tuple[int, int] = WINDOW_HU,
) -> NDArray[np.uint8]:
    """Render a slice with the outlines of lungs, trachea and nodules, and the diameters of the nodules.

    An outline runs along the first enlarged pixels outside a class, so it hides nothing inside; no outline
    covers a nodule. Where the map shows both lungs, the sides of the patient are marked.

    Args:
        hu: Shape [H, W], in HU.
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the column ``nodules``: x, y, diameter_px, diameter_mm.
        factor: Integer factor of enlargement.
        window_hu: Lowest and highest HU: black and white.

    Returns:
        Shape [H * factor, W * factor, 3].
    """
    picture = np.repeat(enlarge(hu_to_uint8(hu, window_hu), factor)[..., None], 3, axis=2)
    enlarged = enlarge(label, factor)
    for value in (classes.LEFT_LUNG, classes.RIGHT_LUNG, classes.TRACHEA, classes.NODULE):
        inside = enlarged == value
        outline = ndimage.binary_dilation(inside) & ~inside & (enlarged != classes.NODULE)
        picture[outline] = _COLOURS[value]
    return mark_orientation(write_sizes(picture, list(nodules), factor), label)


def slice_tile(
    hu: NDArray[np.int16],
    label: NDArray[np.uint8],
    caption: str = "",
    *,
    window_hu: tuple[int, int] = WINDOW_HU,
    tile_px: int = 256,
) -> Tile:
    """A slice as a radiologist looks at it: upright, with the patient's sides, in a window.

    Args:
        hu: Shape [H, W], in HU, as it is stored.
        label: Its map, [H, W], which says where the patient's sides are.
        caption: Text below the picture.
        window_hu: Lowest and highest HU: black and white.
        tile_px: A small slice is enlarged by the largest integer factor that fits.
    """
    picture = enlarge(hu_to_uint8(shown(hu, label), window_hu), max(tile_px // max(hu.shape), 1))
    return Tile(mark_orientation(picture, shown(label, label)), caption)


def map_tile(label: NDArray[np.uint8], caption: str = "", *, tile_px: int = 256) -> Tile:
    """The map of a slice, upright, in the colours of its classes; arguments as of ``slice_tile``."""
    return Tile(enlarge(render_map(shown(label, label)), max(tile_px // max(label.shape), 1)), caption)


def enlarge(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Enlarge a picture: each pixel becomes a square of ``factor`` pixels.

    Args:
        picture: Shape [H, W] or [H, W, 3].
        factor: 1 or more.
    """
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def contact_sheet(
    rows: Sequence[Sequence[Tile]],
    *,
    column_headings: Sequence[str] = (),
    row_headings: Sequence[str] = (),
    footer: str = "",
    legend: bool = False,
    tile_px: int = 256,
) -> NDArray[np.uint8]:
    """Arrange pictures in rows and columns.

    Args:
        rows: Tiles of each row; rows may differ in length.
        column_headings: One heading per column, or none.
        row_headings: One heading per row, to its left, or none.
        footer: A line at the bottom, such as the HU window.
        legend: Whether to add a legend of the class colours.
        tile_px: Small pictures are enlarged by the largest integer factor that fits; none is shrunk.

    Returns:
        Shape [height, width, 3].
    """
    pictures = [[_fitted(tile.picture, tile_px) for tile in row] for row in rows]
    cell = max((max(picture.shape[:2]) for row in pictures for picture in row), default=tile_px)
    captions = [[wrapped(tile.caption, cell) for tile in row] for row in rows]
    row_lines = [wrapped(heading, cell // 2) for heading in row_headings]
    left = _MARGIN + (
        max(text_width(line) for words in row_lines for line in words) + _MARGIN if row_lines else 0
    )
    heading_lines = [wrapped(heading, cell) for heading in column_headings]
    top = _MARGIN + max((len(words) for words in heading_lines), default=0) * LINE_PX
    heights = [
        max((picture.shape[0] for picture in row), default=0)
        + max((len(words) for words in lines), default=0) * LINE_PX
        + _MARGIN
        for row, lines in zip(pictures, captions, strict=True)
    ]
    columns = max((len(row) for row in rows), default=0)
    width = left + columns * (cell + _MARGIN)
    entries = _legend_entries(width) if legend else []
    footer_lines = wrapped(footer, width - 2 * _MARGIN)
    height = top + sum(heights) + (len(entries) + len(footer_lines)) * LINE_PX + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    for column, words in enumerate(heading_lines):
        _write(sheet, words, left + column * (cell + _MARGIN), _MARGIN)
    at = top
    for index, row in enumerate(pictures):
        if row_lines:
            _write(sheet, row_lines[index], _MARGIN, at)
        for column, picture in enumerate(row):
            x = left + column * (cell + _MARGIN)
            sheet.paste(Image.fromarray(picture), (x, at))
            _write(sheet, captions[index][column], x, at + picture.shape[0])
        at += heights[index]
    for entry_row in entries:
        for x, value in entry_row:
            _draw_legend_entry(sheet, x, at, value)
        at += LINE_PX
    _write(sheet, footer_lines, _MARGIN, at)
    return np.asarray(sheet)


def hu_to_uint16(hu: NDArray[np.int16]) -> NDArray[np.uint16]:
    """Convert Hounsfield units to 16-bit grey values without loss: HU + 32768.

    Args:
        hu: Any shape, in HU.

    Returns:
        The same shape.
    """
    return (hu.astype(np.int32) + HU_OFFSET).astype(np.uint16)


def png_bytes(
    picture: NDArray[np.uint8] | NDArray[np.uint16], text: Mapping[str, str] | None = None
) -> bytes:
    """Encode a picture as PNG.

    Args:
        picture: Grey [H, W] or RGB [H, W, 3], uint8; or 16-bit grey [H, W].
        text: Keyword to text of the metadata: content, window, provenance.

    Returns:
        The bytes of the file, the same for the same picture and text.
    """
    deep = picture.dtype == np.uint16
    assert picture.dtype == np.uint8 or (deep and picture.ndim == 2), f"{picture.dtype} {picture.shape}"
    information = PngInfo()
    for keyword, value in (text or {}).items():
        information.add_itxt(keyword, value)
    file = io.BytesIO()
    # 16-bit noise hardly compresses: a higher level takes several times as long and saves a twentieth.
    Image.fromarray(picture).save(file, format="PNG", pnginfo=information, compress_level=1 if deep else 6)
    return file.getvalue()


def _fitted(picture: NDArray[np.uint8], tile_px: int) -> NDArray[np.uint8]:
    enlarged = enlarge(picture, max(tile_px // max(picture.shape[:2]), 1))
    return enlarged if enlarged.ndim == 3 else np.repeat(enlarged[..., None], 3, axis=2)


def _legend_entries(width: int) -> list[list[tuple[int, int]]]:
    """Rows of (x, class), as many per row as fit."""
    entries: list[list[tuple[int, int]]] = [[]]
    x = _MARGIN
    for value, name in enumerate(classes.NAMES):
        step = LINE_PX + text_width(name) + 2 * _MARGIN
        if entries[-1] and x + step > width:
            entries.append([])
            x = _MARGIN
        entries[-1].append((x, value))
        x += step
    return entries


def _draw_legend_entry(sheet: Image.Image, x: int, y: int, value: int) -> None:
    side = TEXT_PX - 2
    box = (x, y + 3, x + side, y + 3 + side)
    ImageDraw.Draw(sheet).rectangle(box, classes.COLOURS[value], outline=(128, 128, 128))
    _write(sheet, [classes.NAMES[value]], x + LINE_PX, y)


def _write(sheet: Image.Image, lines: Sequence[str], x: int, y: int) -> None:
    drawing = ImageDraw.Draw(sheet)
    for index, line in enumerate(lines):
        drawing.text((x, y + index * LINE_PX), line, INK, font=font())

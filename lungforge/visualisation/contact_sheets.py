"""Pictures of slices and maps for people: colours, outlines, captioned sheets, PNG files.

Nothing here blurs: pictures are enlarged by whole factors, each pixel to a square.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.window import WINDOW_HU, hu_to_uint8

Picture = NDArray[np.uint8]
"""Grey [H, W], or red, green, blue [H, W, 3]."""

HU_OFFSET = 32768
"""What is added to Hounsfield units in a picture of 16 bits: every int16 has a grey value of its own."""

WINDOW_WORDS = f"window {WINDOW_HU[0]} to {WINDOW_HU[1]} HU"
"""What a caption or footer says about the grey values."""

_COLOURS = np.array(classes.COLOURS, np.uint8)
_PAPER = (24, 24, 28)
_INK = (235, 235, 235)
_TEXT_PX = 13
_LINE_PX = 18
_MARGIN = 8


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet."""

    picture: Picture
    caption: str = ""
    """Stands below the picture; lines that are too long are broken between words."""


def map_picture(label: NDArray[np.uint8]) -> Picture:
    """Paint a label map in the colours of its classes.

    Args:
        label: Classes 0-5, shape [H, W].

    Returns:
        Shape [H, W, 3].
    """
    return _COLOURS[label]


def overlay_picture(
    hu: NDArray[np.int16],
    label: NDArray[np.uint8],
    nodules: Iterable[Mapping[str, float]] = (),
    *,
    factor: int = 1,
) -> Picture:
    """Draw the outlines of lungs, trachea and nodules on a slice, and say how large the nodules are.

    An outline runs along the first pixels of the enlarged picture outside a class, so it hides nothing of
    what it surrounds; no outline is drawn over a nodule.

    Args:
        hu: Shape [H, W], in HU.
        label: Classes 0-5, shape [H, W].
        nodules: Entries of the row's column ``nodules``: x, y, diameter_px, diameter_mm.
        factor: How many pixels wide each pixel becomes.

    Returns:
        Shape [H * factor, W * factor, 3].
    """
    picture = np.repeat(enlarge(hu_to_uint8(hu), factor)[..., None], 3, axis=2)
    enlarged = enlarge(label, factor)
    for value in (classes.LEFT_LUNG, classes.RIGHT_LUNG, classes.TRACHEA, classes.NODULE):
        inside = enlarged == value
        outline = ndimage.binary_dilation(inside) & ~inside & (enlarged != classes.NODULE)
        picture[outline] = _COLOURS[value]
    drawing = Image.fromarray(picture)
    for nodule in nodules:
        _write_size(drawing, nodule, factor)
    return np.asarray(drawing)


def enlarge(picture: Picture, factor: int) -> Picture:
    """Make each pixel a square of ``factor`` pixels.

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
) -> Picture:
    """Set pictures out in rows and columns.

    Args:
        rows: Tiles of each row; rows may differ in length.
        column_headings: One for each column, above it; or none.
        row_headings: One for each row, left of it; or none.
        footer: A line below, such as the window of the grey values.
        legend: Whether to show below which colour is which class.
        tile_px: Small pictures are enlarged by the largest whole factor that fits this; none is shrunk.

    Returns:
        Shape [height, width, 3].
    """
    pictures = [[_fitted(tile.picture, tile_px) for tile in row] for row in rows]
    cell = max((max(picture.shape[:2]) for row in pictures for picture in row), default=tile_px)
    captions = [[_broken(tile.caption, cell) for tile in row] for row in rows]
    left_words = [_broken(heading, cell // 2) for heading in row_headings]
    left = _MARGIN + (
        max(_width(line) for words in left_words for line in words) + _MARGIN if left_words else 0
    )
    heading_words = [_broken(heading, cell) for heading in column_headings]
    top = _MARGIN + max((len(words) for words in heading_words), default=0) * _LINE_PX
    heights = [
        max((picture.shape[0] for picture in row), default=0)
        + max((len(words) for words in lines), default=0) * _LINE_PX
        + _MARGIN
        for row, lines in zip(pictures, captions, strict=True)
    ]
    columns = max((len(row) for row in rows), default=0)
    width = left + columns * (cell + _MARGIN)
    entries = _legend_entries(width) if legend else []
    footer_words = _broken(footer, width - 2 * _MARGIN)
    height = top + sum(heights) + (len(entries) + len(footer_words)) * _LINE_PX + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    for column, words in enumerate(heading_words):
        _write(sheet, words, left + column * (cell + _MARGIN), _MARGIN)
    at = top
    for index, row in enumerate(pictures):
        if left_words:
            _write(sheet, left_words[index], _MARGIN, at)
        for column, picture in enumerate(row):
            x = left + column * (cell + _MARGIN)
            sheet.paste(Image.fromarray(picture), (x, at))
            _write(sheet, captions[index][column], x, at + picture.shape[0])
        at += heights[index]
    for entry_row in entries:
        for x, value in entry_row:
            _draw_legend_entry(sheet, x, at, value)
        at += _LINE_PX
    _write(sheet, footer_words, _MARGIN, at)
    return np.asarray(sheet)


def hu_to_uint16(hu: NDArray[np.int16]) -> NDArray[np.uint16]:
    """Hounsfield units as grey values of 16 bits, without loss: HU + 32768.

    Args:
        hu: Any shape, in HU.

    Returns:
        The same shape.
    """
    return (hu.astype(np.int32) + HU_OFFSET).astype(np.uint16)


def png_bytes(picture: Picture | NDArray[np.uint16], text: Mapping[str, str] | None = None) -> bytes:
    """A PNG file.

    Args:
        picture: Grey [H, W], or red, green, blue [H, W, 3]; or grey of 16 bits [H, W].
        text: Keyword to text, kept in the file: what the picture shows, its window, where it came from.

    Returns:
        The file's bytes; the same for the same picture and text.
    """
    deep = picture.dtype == np.uint16
    assert picture.dtype == np.uint8 or (deep and picture.ndim == 2), f"{picture.dtype} {picture.shape}"
    information = PngInfo()
    for keyword, value in (text or {}).items():
        information.add_itxt(keyword, value)
    file = io.BytesIO()
    # The noise of 16 bits hardly shrinks: more effort takes several times as long and saves a twentieth.
    Image.fromarray(picture).save(file, format="PNG", pnginfo=information, compress_level=1 if deep else 6)
    return file.getvalue()


def _write_size(drawing: Image.Image, nodule: Mapping[str, float], factor: int) -> None:
    """Write the diameter beside a nodule, where it does not leave the picture."""
    words = f"{nodule['diameter_mm']:.1f} mm"
    x, y = ((nodule[axis] + 0.5) * factor for axis in ("x", "y"))
    gap = nodule["diameter_px"] * factor / 2 + 4
    width = _width(words)
    left = x + gap if x + gap + width <= drawing.width else x - gap - width
    top = min(max(y - _LINE_PX / 2, 0), drawing.height - _LINE_PX)
    ImageDraw.Draw(drawing).text(
        (round(max(left, 0)), round(top)), words, _INK, font=_font(), stroke_width=2, stroke_fill=(0, 0, 0)
    )


def _fitted(picture: Picture, tile_px: int) -> Picture:
    enlarged = enlarge(picture, max(tile_px // max(picture.shape[:2]), 1))
    return enlarged if enlarged.ndim == 3 else np.repeat(enlarged[..., None], 3, axis=2)


def _legend_entries(width: int) -> list[list[tuple[int, int]]]:
    """Rows of (x, class), as many side by side as fit."""
    entries: list[list[tuple[int, int]]] = [[]]
    x = _MARGIN
    for value, name in enumerate(classes.NAMES):
        step = _LINE_PX + _width(name) + 2 * _MARGIN
        if entries[-1] and x + step > width:
            entries.append([])
            x = _MARGIN
        entries[-1].append((x, value))
        x += step
    return entries


def _draw_legend_entry(sheet: Image.Image, x: int, y: int, value: int) -> None:
    side = _TEXT_PX - 2
    box = (x, y + 3, x + side, y + 3 + side)
    ImageDraw.Draw(sheet).rectangle(box, classes.COLOURS[value], outline=(128, 128, 128))
    _write(sheet, [classes.NAMES[value]], x + _LINE_PX, y)


def _broken(words: str, width: int) -> list[str]:
    """The lines of a text; a line that is wider than ``width`` px is broken between words."""
    lines: list[str] = []
    for paragraph in words.splitlines():
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and _width(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return [_shortened(line, width) for line in lines]


def _shortened(line: str, width: int) -> str:
    """A line without its middle, when it is wider than ``width`` px: uids differ at their ends."""
    kept = len(line)
    short = line
    while _width(short) > width and kept > 2:
        kept -= 1
        short = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
    return short


def _write(sheet: Image.Image, lines: Sequence[str], x: int, y: int) -> None:
    drawing = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        drawing.text((x, y + number * _LINE_PX), line, _INK, font=_font())


def _width(line: str) -> int:
    return int(np.ceil(_font().getlength(line)))


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib's: the digits of the font that Pillow brings stand unevenly, and captions are full of them.
    path = files("matplotlib") / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    # The basic layout sets digits on whole pixels, evenly, and the same wherever Pillow was built.
    return ImageFont.truetype(str(path), _TEXT_PX, layout_engine=ImageFont.Layout.BASIC)

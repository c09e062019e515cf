"""Text in pictures: one font, its measures, and lines that fit."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from PIL import ImageFont

INK = (235, 235, 235)
"""Colour of text on dark ground."""
TEXT_PX = 13
LINE_PX = 18
"""Heights of a letter and of a line."""


def wrapped(text: str, width: int) -> list[str]:
    """Wrap a text to ``width`` px, between words."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and text_width(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return [_shortened(line, width) for line in lines]


def _shortened(line: str, width: int) -> str:
    """Shorten a line to ``width`` px by leaving out its middle, as UIDs differ at their ends."""
    kept = len(line)
    short = line
    while text_width(short) > width and kept > 2:
        kept -= 1
        short = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
    return short


def text_width(line: str) -> int:
    """Width of a line, in px."""
    return int(np.ceil(font().getlength(line)))


@lru_cache(maxsize=1)
def font() -> ImageFont.FreeTypeFont:
    """The font of all text."""
    # Matplotlib's font: the digits of Pillow's are unevenly spaced, and captions are full of them.
    path = files("matplotlib") / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    # The basic layout places digits on whole pixels, evenly, and the same in every build of Pillow.
    return ImageFont.truetype(str(path), TEXT_PX, layout_engine=ImageFont.Layout.BASIC)

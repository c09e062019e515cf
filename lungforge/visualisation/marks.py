"""What is written into a picture of a slice: the sides of the patient, and the sizes of nodules."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lungforge.ct.orientation import has_sides, is_turned
from lungforge.visualisation.text import INK, LINE_PX, font, text_width

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in px of the picture."""

_GAP = 4
#: Rings of places that are tried around a nodule, each a line further away.
_RINGS = 6
#: Left, right, upper and lower edge.
_SIDES, _TURNED_SIDES = ("R", "L", "A", "P"), ("L", "R", "P", "A")
#: Sides of a picture that letters would cover too much of, in px.
_SMALLEST = 96


def mark_orientation(picture: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mark the sides of the patient as a viewer does: R and L, A (front) and P (back), at the edges.

    Args:
        picture: Grey [h, w] or RGB [h, w, 3]; one that is too small for letters is left as it is.
        label: The slice's map, [H, W], which says where they are, also of a slice that is stored turned. One
            without both lungs does not; then nothing is marked.

    Returns:
        The same shape.
    """
    if not has_sides(label) or min(picture.shape[:2]) < _SMALLEST:
        return picture
    drawing = Image.fromarray(picture)
    sides = _TURNED_SIDES if is_turned(label) else _SIDES
    for side, box in zip(sides, _side_boxes(*picture.shape[:2]), strict=True):
        _write(drawing, side, box)
    return np.asarray(drawing)


def write_sizes(
    picture: NDArray[np.uint8], nodules: Sequence[Mapping[str, float]], factor: int
) -> NDArray[np.uint8]:
    """Write the diameter of each nodule beside it, so that no two lie on one another or on a nodule.

    Args:
        picture: RGB [H * factor, W * factor, 3].
        nodules: Entries of the column ``nodules``: x, y, diameter_px, diameter_mm.
        factor: Picture pixels a pixel of the slice.

    Returns:
        The same shape.
    """
    drawing = Image.fromarray(picture)
    height, width = picture.shape[:2]
    discs = [_disc(nodule, factor) for nodule in nodules]
    written: list[Box] = []
    for nodule, disc in zip(nodules, discs, strict=True):
        words = f"{nodule['diameter_mm']:.1f} mm"
        places = [_inside(place, width, height) for place in _places(disc, text_width(words))]
        taken = [*discs, *written, *_side_boxes(height, width)]
        # Beside another label, and over a nodule, rather than over a label, where there is no room at all.
        for avoided in (taken, written):
            free = [place for place in places if not any(_overlap(place, other) for other in avoided)]
            if free:
                break
        place = (free or places)[0]
        written.append(place)
        _write(drawing, words, place)
    return np.asarray(drawing)


def _disc(nodule: Mapping[str, float], factor: int) -> Box:
    x, y = ((nodule[axis] + 0.5) * factor for axis in ("x", "y"))
    radius = nodule["diameter_px"] * factor / 2
    return (x - radius, y - radius, x + radius, y + radius)


def _places(disc: Box, width: int) -> Iterator[Box]:
    """Places around a nodule, nearest first: right, left, below, above, then further up and down."""
    left, top, right, bottom = disc
    x, y = (left + right) / 2, (top + bottom) / 2
    for ring in range(_RINGS):
        for shift in (ring * LINE_PX, -ring * LINE_PX) if ring else (0,):
            for at_x in (right + _GAP, left - _GAP - width):
                yield _box(at_x, y - LINE_PX / 2 + shift, width)
        away = ring * LINE_PX
        yield _box(x - width / 2, bottom + _GAP + away, width)
        yield _box(x - width / 2, top - _GAP - LINE_PX - away, width)


def _box(left: float, top: float, width: int) -> Box:
    return (left, top, left + width, top + LINE_PX)


def _inside(box: Box, width: int, height: int) -> Box:
    """The box moved into the picture."""
    left = max(min(box[0], width - (box[2] - box[0])), 0)
    top = max(min(box[1], height - LINE_PX), 0)
    return (left, top, left + box[2] - box[0], top + LINE_PX)


def _side_boxes(height: int, width: int) -> list[Box]:
    """Where R, L, A and P stand: at the middle of the left, right, upper and lower edge."""
    wide = [text_width(side) for side in _SIDES]
    middle = (height - LINE_PX) / 2
    return [
        _box(_GAP, middle, wide[0]),
        _box(width - _GAP - wide[1], middle, wide[1]),
        _box((width - wide[2]) / 2, 1, wide[2]),
        _box((width - wide[3]) / 2, height - LINE_PX - 1, wide[3]),
    ]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _write(drawing: Image.Image, words: str, box: Box) -> None:
    colour = INK if drawing.mode == "RGB" else INK[0]
    black = (0, 0, 0) if drawing.mode == "RGB" else 0
    ImageDraw.Draw(drawing).text(
        (round(box[0]), round(box[1])), words, colour, font=font(), stroke_width=2, stroke_fill=black
    )

"""PNG files of slices and maps, which say of themselves what they are."""

import numpy as np
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Kind
from lungforge.visualisation.contact_sheets import HU_OFFSET, hu_to_uint16, png_bytes
from services.export.rows import Item

_CLASS_TEXT = ", ".join(f"{value} {name}" for value, name in enumerate(classes.NAMES))
_TURNED = "by 180 degrees from the pixel grid of the scan, so that the patient's right is on the left"


def grey_png(
    item: Item, hu: NDArray[np.int16], window: tuple[int, int], *, crop: bool | None = None
) -> bytes:
    """An 8-bit image in a window.

    Args:
        item: The row.
        hu: Its image, or a crop of it, [H, W].
        window: Lowest and highest HU: black and white.
        crop: Whether it is a crop; that of the row when not given.
    """
    low, high = window
    text = describe_image(item, crop=crop) | {"Window": f"{low} to {high} HU as 0 to 255"}
    return png_bytes(hu_to_uint8(hu, window), text)


def hu_png(item: Item) -> bytes:
    """A 16-bit image of all HU, without loss."""
    return png_bytes(
        hu_to_uint16(item.row["image"]), describe_image(item) | {"HU": f"grey value - {HU_OFFSET}"}
    )


def map_png(item: Item) -> bytes:
    """The map: the class of each pixel."""
    return png_bytes(item.row["label"], describe_map(item))


def describe_image(item: Item, *, crop: bool | None = None) -> dict[str, str]:
    """Keyword to text about an image; synthetic images are marked first."""
    return _text(item, _ct(item, crop))


def describe_map(item: Item) -> dict[str, str]:
    """Keyword to text about a map."""
    return _text(item, f"semantic map of a {_ct(item, None)}") | {"Classes": _CLASS_TEXT}


def _ct(item: Item, crop: bool | None) -> str:
    crop = item.kind is Kind.CROPS if crop is None else crop
    return f"{'synthetic ' if item.synthetic else ''}CT {'crop' if crop else 'slice'}"


def _text(item: Item, description: str) -> dict[str, str]:
    text = {"Synthetic": item.marker} if item.synthetic else {}
    text |= {"Description": description, "Source": item.origin}
    return text | ({"Turned": _TURNED} if item.turned else {})

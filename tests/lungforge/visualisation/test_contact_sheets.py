import io
import itertools

import numpy as np
import pytest
from PIL import Image

from lungforge.ct.classes import BODY, COLOURS, LEFT_LUNG, NAMES, NODULE, RIGHT_LUNG
from lungforge.visualisation.contact_sheets import (
    WINDOW_TEXT,
    Tile,
    contact_sheet,
    enlarge,
    hu_to_uint16,
    map_tile,
    png_bytes,
    render_map,
    render_overlay,
    slice_tile,
)

#: How the world looks without red, green or blue cones, on linear red, green, blue: G. M. Machado et al.,
#: "A physiologically-based model for simulation of color vision deficiency", 2009, severity 1.
COLOUR_VISION = {
    "full": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_TO_XYZ = np.array([[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]])


def cielab(linear_rgb: np.ndarray) -> np.ndarray:
    t = _TO_XYZ @ np.clip(linear_rgb, 0, 1) / _TO_XYZ.sum(axis=1)
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_the_class_colours_differ_with_any_colour_vision(vision: str) -> None:
    linear = [(np.array(colour) / 255) ** 2.2 for colour in COLOURS]
    seen = [cielab(np.array(COLOUR_VISION[vision]) @ colour) for colour in linear]
    # A difference of 10 in CIELAB is plain to the eye at a glance.
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 18


def test_a_map_is_painted_in_the_colours_of_its_classes() -> None:
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert render_map(label).reshape(6, 3).tolist() == [list(colour) for colour in COLOURS]


def test_enlarging_repeats_pixels() -> None:
    assert enlarge(np.array([[1, 2]], np.uint8), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_outlines_run_around_a_class_and_hide_nothing_of_it() -> None:
    hu = np.full((9, 9), -850, np.int16)
    hu[4, 4] = 400
    label = np.full((9, 9), LEFT_LUNG, np.uint8)
    label[4, 4] = NODULE
    picture = render_overlay(hu, label, factor=3)
    assert picture.shape == (27, 27, 3)
    assert (picture[12:15, 12:15] == 255).all(), "the nodule's own pixel is seen whole"
    red = (picture == COLOURS[NODULE]).all(axis=-1)
    assert np.argwhere(red).min(axis=0).tolist() == [11, 11]
    assert red.sum() == 12
    assert not (picture == COLOURS[LEFT_LUNG]).all(axis=-1).any(), "nothing of the lung's outline lies in it"
    assert (picture[0, 0] == 27).all(), "-850 HU is grey value 27"


@pytest.mark.parametrize("x", [2.0, 60.0])
def test_the_size_of_a_nodule_is_written_beside_it_within_the_picture(x: float) -> None:
    hu, label = np.full((64, 64), -1000, np.int16), np.zeros((64, 64), np.uint8)
    plain = render_overlay(hu, label, factor=4)
    nodule = {"x": x, "y": 1.0, "diameter_px": 4.0, "diameter_mm": 6.04}
    written = render_overlay(hu, label, [nodule], factor=4)
    rows, columns, _ = np.nonzero(written != plain)
    assert len(rows) > 100
    assert columns.min() > 4 * 4.5 if x < 32 else columns.max() < 4 * 58.5, "not over the nodule"
    assert columns.max() - columns.min() > 40, "all of the words are in the picture"


def test_a_sheet_holds_every_picture_whole_and_unblurred() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 32)).astype(np.uint8)
    large = rng.integers(0, 256, (300, 200, 3)).astype(np.uint8)
    rows = [[Tile(small, "small"), Tile(large, "large\nof two lines")], [Tile(small)]]
    sheet = contact_sheet(
        rows, column_headings=["CT", "map"], row_headings=["one", "two"], footer=WINDOW_TEXT, legend=True
    )
    for picture, times in ((enlarge(small, 8), 2), (large, 1)):
        rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        assert count_places(sheet, rgb) == times
    for colour in COLOURS:
        assert (sheet == colour).all(axis=-1).any()


def count_places(sheet: np.ndarray, picture: np.ndarray) -> int:
    height, width = picture.shape[:2]
    places = np.argwhere((sheet[: -height + 1, : -width + 1] == picture[0, 0]).all(axis=-1))
    return sum(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in places)


def test_captions_never_run_into_the_next_picture() -> None:
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"
    black = np.zeros((64, 64), np.uint8)
    tiles = [Tile(black, uid), Tile(black), Tile(black, "5.4 mm, sampled with guidance")]
    sheet = contact_sheet([tiles], tile_px=64)
    paper = sheet[0, 0]
    gaps = [*range(72, 80), *range(144, 152)]
    assert (sheet[:, gaps] == paper).all()
    assert (sheet[72:90, 8:72] != paper).any()


def test_an_empty_sheet_is_a_picture_too() -> None:
    assert contact_sheet([], footer="no slices").shape[2] == 3


def test_the_legend_wraps_on_a_narrow_sheet() -> None:
    sheet = contact_sheet([[Tile(np.zeros((100, 100), np.uint8))]], legend=True, tile_px=100)
    assert all((sheet == colour).all(axis=-1).any() for colour in COLOURS)
    assert len(NAMES) == len(COLOURS)


def test_a_png_keeps_its_pixels_and_its_text() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    text = {"Window": WINDOW_TEXT, "Source": "Fréchet, σ = 2"}
    with Image.open(io.BytesIO(png_bytes(grey, text))) as image:
        assert image.mode == "L"
        assert image.text == text  # type: ignore[attr-defined]
        np.testing.assert_array_equal(np.asarray(image), grey)
    assert png_bytes(grey, text) == png_bytes(grey, text)
    colour = render_map(grey % 6)
    with Image.open(io.BytesIO(png_bytes(colour))) as image:
        np.testing.assert_array_equal(np.asarray(image), colour)


def test_every_hounsfield_unit_of_16_bits_comes_back_from_a_png() -> None:
    hu = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(256, 256)
    assert hu_to_uint16(np.array([-32768, -1000, 0, 32767], np.int16)).tolist() == [0, 31768, 32768, 65535]
    with Image.open(io.BytesIO(png_bytes(hu_to_uint16(hu)))) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image).astype(np.int32) - 32768, hu)


def test_the_window_is_stated_as_it_is() -> None:
    assert WINDOW_TEXT == "window -1000 to 400 HU"


def test_tiles_of_a_slice_that_is_stored_turned_are_those_of_the_upright_one() -> None:
    label = np.full((16, 16), BODY, np.uint8)
    label[4:12, 1:6], label[4:12, 10:15] = RIGHT_LUNG, LEFT_LUNG
    hu = np.arange(256).reshape(16, 16).astype(np.int16)
    for one, other in (
        (slice_tile(hu, label, "a"), slice_tile(hu[::-1, ::-1], label[::-1, ::-1], "a")),
        (map_tile(label), map_tile(label[::-1, ::-1])),
    ):
        np.testing.assert_array_equal(one.picture, other.picture)
        assert one.caption == other.caption
    picture = slice_tile(hu, label, window_hu=(0, 255)).picture
    assert picture.shape == (256, 256)
    assert picture[3 * 16 + 8, 3 * 16 + 8] == hu[3, 3]

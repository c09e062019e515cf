"""The contact sheet of slices: upright, in two windows, with what the map leaves out."""

import numpy as np
import pytest

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.datasets import Kind
from services.tools import slice_sheet
from tests.factories import nodule_at, sample_row, slice_row


def row(*, stored_turned: bool = False, **changes) -> dict:
    label = np.full((16, 16), BODY, np.uint8)
    label[4:12, 1:6], label[4:12, 10:15] = RIGHT_LUNG, LEFT_LUNG
    label[5, 2] = NODULE
    image = np.where(label == BODY, 40, -850).astype(np.int16)
    made = slice_row(image=image, label=label, nodules=[nodule_at(2.0, 5.0, 1.0, 5.0)])
    if stored_turned:
        made |= {
            "image": image[::-1, ::-1],
            "label": label[::-1, ::-1],
            "nodules": [nodule_at(13.0, 10.0, 1.0, 5.0)],
        }
    return made | changes


def test_a_slice_that_is_stored_turned_looks_like_the_upright_one() -> None:
    sheets = [slice_sheet.slice_sheet(Kind.SLICES, [one]) for one in (row(), row(stored_turned=True))]
    pictures = [sheet[:280] for sheet in sheets]  # without the captions, of which one says that it was turned
    np.testing.assert_array_equal(*pictures)


def test_tissue_is_bright_in_both_windows_and_lung_only_in_its_own() -> None:
    sheet = slice_sheet.slice_sheet(Kind.SLICES, [row()])
    lung, soft = sheet[26:282, 8:264], sheet[26:282, 272:528]
    # Beside the marks: pixel (3, 6) of the lung, 16 times enlarged, and (3, 2) of the body.
    at = lambda picture, x, y: picture[y * 16 + 8, x * 16 + 8].tolist()  # noqa: E731
    # (-850 + 1350) / 1500 and (40 + 1350) / 1500 of 255; (40 + 160) / 400 of 255.
    assert (at(lung, 3, 6), at(lung, 3, 2)) == ([85] * 3, [236] * 3)
    assert (at(soft, 3, 6), at(soft, 3, 2)) == ([0] * 3, [128] * 3)


@pytest.mark.parametrize(
    ("diameter_px", "words"),
    [
        (1.0, "nodules: 5.0 mm"),
        (1.59, "nodules: 5.0 mm"),  # a disc of 1.99 px: the one that is shown is half
        (1.61, "nodules: 5.0 mm (map: only 1 of 2 px)"),
        (8.0, "nodules: 5.0 mm (map: only 1 of 50 px)"),
    ],
)
def test_a_map_that_shows_less_than_half_of_a_disc_is_pointed_out(diameter_px: float, words: str) -> None:
    label = row()["label"]
    assert slice_sheet.nodule_words(label, [nodule_at(2.0, 5.0, diameter_px, 5.0)]) == words


def test_a_slice_without_nodules_says_so() -> None:
    assert slice_sheet.nodule_words(row()["label"], []) == "no nodule"


@pytest.mark.parametrize("kind", [Kind.SLICES, Kind.SAMPLES])
def test_what_luna16_leaves_out_is_said_of_its_slices_only(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    footers = []
    monkeypatch.setattr(slice_sheet, "contact_sheet", lambda rows, **said: footers.append(said["footer"]))
    for uid in ("1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860", "2.25.1"):
        one = row(series_uid=uid)
        slice_sheet.slice_sheet(kind, [sample_row(one) if kind is Kind.SAMPLES else one])
    luna, other = footers
    assert "most masses of 30 mm and more unannotated" in luna
    assert "30 mm" not in other
    assert "lung window -1350 to 150 HU, soft-tissue window -160 to 240 HU" in other

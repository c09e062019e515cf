"""A slice of a dataset in another size: as preprocessing resizes, and no nodule is lost."""

import numpy as np
import pytest

import lungforge
from lungforge.api.resizing import resized
from lungforge.ct.classes import LEFT_LUNG, NODULE
from lungforge.ct.phantoms.generate import generate_phantom
from tests.factories import nodule_at, slice_of


def _with_nodule(side: int = 64) -> lungforge.SliceRow:
    label = np.full((side, side), LEFT_LUNG, np.uint8)
    label[21:24, 40:43] = NODULE
    image = np.where(label == NODULE, 40, -850).astype(np.int16)
    return slice_of(image=image, label=label, nodules=[nodule_at(41, 22, 3, 3)])


def test_the_same_size_is_the_same_slice() -> None:
    row = _with_nodule()
    assert resized(row, 64) is row


def test_half_the_size_averages_four_pixels() -> None:
    row = _with_nodule()
    half = resized(row, 32)
    means = row.image.reshape(32, 2, 32, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(half.image - means).max() <= 0.5
    assert half.spacing_mm == (2.0, 2.0)
    (nodule,) = half.nodules
    # Pixel centres: (41 + 0.5) / 2 - 0.5.
    assert (nodule["x"], nodule["y"]) == (20.25, 10.75)
    assert (nodule["diameter_px"], nodule["diameter_mm"]) == (1.5, 3)
    assert (half.label == NODULE).sum() == 2  # 9 of its pixels are 2.25


@pytest.mark.parametrize("size", [8, 4])
def test_no_nodule_is_lost(size: int) -> None:
    small = resized(_with_nodule(), size)
    assert (small.label == NODULE).sum() == 1
    assert len(small.nodules) == 1
    row, column = np.argwhere(small.label == NODULE)[0]
    assert abs(row - small.nodules[0]["y"]) <= 1
    assert abs(column - small.nodules[0]["x"]) <= 1


def test_a_nodule_that_no_list_names_stays_in_the_map() -> None:
    row = _with_nodule()
    label = row.label.copy()
    label[0:4, 60:64] = NODULE  # its centre is beyond the edge
    edge = slice_of(image=row.image, label=label, nodules=list(row.nodules))
    half = resized(edge, 32)
    assert (half.label[:2, 30:] == NODULE).all()
    assert len(half.nodules) == 1


def test_a_slice_without_nodules_has_none() -> None:
    label = np.full((64, 64), LEFT_LUNG, np.uint8)
    assert not (resized(slice_of(label=label), 16).label == NODULE).any()


def test_it_is_what_preprocessing_would_have_made() -> None:
    """Resizing to 64 and then to 32 px moves borders, against 32 px at once, by less than a pixel."""
    phantom = generate_phantom(0, 0, size=128, slices=12)
    nodules = [(*nodule.point_mm, nodule.diameter_mm) for nodule in phantom.nodules]
    twice = [resized(row, 32) for row in lungforge.slice_volume(phantom.volume, nodules=nodules, size=64)]
    once = lungforge.slice_volume(phantom.volume, nodules=nodules, size=32)
    for one, other in zip(twice, once, strict=True):
        assert one.spacing_mm == pytest.approx(other.spacing_mm)
        for row, column in np.argwhere(one.label != other.label):
            around = other.label[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            assert one.label[row, column] in around
        assert np.abs(one.image.astype(int) - other.image).max() <= 1
        assert [nodule["x"] for nodule in one.nodules] == pytest.approx(
            [nodule["x"] for nodule in other.nodules]
        )

"""Segmentation of synthetic images with known anatomy, and of real slices compared with their masks."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lungforge.ct.classes import BACKGROUND, BODY, LEFT_LUNG, RIGHT_LUNG, TRACHEA
from lungforge.ct.geometry import Geometry
from lungforge.ct.io.luna16 import list_series
from lungforge.ct.io.volume import read_volume
from lungforge.ct.phantoms.generate import generate_phantom
from lungforge.ct.segmentation.anatomy import anatomy_from_luna, body_mask, derive_anatomy
from lungforge.ct.segmentation.lung_sides import separating_path
from lungforge.errors import InputError

LUNGS = (LEFT_LUNG, RIGHT_LUNG)


def dice(one, other):
    return 2 * (one & other).sum() / max(one.sum() + other.sum(), 1)


def disc(centre, radius, size=200):
    y, x = np.mgrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def chest():
    """A slice of 200 x 200 pixels: body, two lungs, trachea; the table touches it by a bridge of 3 pixels."""
    hu = np.full((200, 200), -1000, np.int16)
    body = disc((100, 100), 75.5)
    hu[body] = 40
    left, right = disc((100, 138), 27), disc((100, 62), 27)  # the picture's right is the patient's left
    trachea = disc((100, 100), 7)
    hu[left | right] = -850
    hu[trachea] = -1000
    hu[disc((100, 138), 5)] = 30  # a vessel
    hu[183:186, 20:180] = 100
    hu[174:184, 99:102] = 100
    return hu, body, left, right, trachea


def test_body_is_the_filled_body_without_the_table():
    hu, body, *_ = chest()
    derived = body_mask(np.stack([hu, hu]))
    np.testing.assert_array_equal(derived[0], derived[1])
    np.testing.assert_array_equal(derived[0][:174], body[:174])
    assert not derived[0][182:].any()


@pytest.mark.parametrize("padding", [None, -3024])
def test_a_lung_that_the_frame_cuts_into_belongs_to_the_body(padding):
    hu, _, left, right, _ = chest()
    hu[left | right] += np.random.default_rng(0).integers(-60, 60, (left | right).sum()).astype(np.int16)
    if padding is None:
        cut = (slice(None), slice(45, 155))  # ten pixels off each lung
        assert body_mask(np.ascontiguousarray(hu[cut]))[(left | right)[cut]].all()
    else:
        outside = ~disc((100, 100), 60.5)
        hu[outside] = padding
        np.testing.assert_array_equal(body_mask(hu), ~outside)


@pytest.mark.parametrize("value", [-1000, -3024, 40])
def test_a_picture_of_nothing_has_no_lungs(value):
    hu = np.full((3, 64, 64), value, np.int16)
    anatomy = derive_anatomy(hu, Geometry((64, 64, 3), (1.0, 1.0, 1.0)))
    assert np.unique(anatomy).tolist() == [BODY if value > 0 else BACKGROUND]


def test_a_luna_mask_gives_its_classes_and_the_rest_is_body():
    hu, body, left, right, trachea = chest()
    mask = np.zeros(hu.shape, np.uint8)
    mask[left], mask[right], mask[trachea] = 3, 4, 5
    mask[disc((40, 100), 5)] = 1
    anatomy = anatomy_from_luna(mask, hu)
    np.testing.assert_array_equal(anatomy == LEFT_LUNG, left)
    np.testing.assert_array_equal(anatomy == RIGHT_LUNG, right)
    np.testing.assert_array_equal(anatomy == TRACHEA, trachea)
    np.testing.assert_array_equal(anatomy[:174] == BODY, (body & ~left & ~right & ~trachea)[:174])


def test_pieces_of_a_mask_outside_the_body_are_dropped():
    hu = np.full((2, 200, 200), -1000, np.int16)
    hu[:, disc((100, 100), 75.5)] = 40
    mask = np.zeros(hu.shape, np.uint8)
    mask[:, disc((100, 100), 7)] = 5
    mask[1, 190:194, 90:110] = 5  # air in the mattress
    mask[1, 170:182, 98:102] = 3  # reaches out of the body through its lower edge: kept whole
    anatomy = anatomy_from_luna(mask, hu)
    assert (anatomy[1, 190:194, 90:110] == BACKGROUND).all()
    assert (anatomy[:, disc((100, 100), 7)] == TRACHEA).all()
    assert (anatomy[1, 170:182, 98:102] == LEFT_LUNG).all()


def test_a_luna_mask_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"the lung mask has the shape \(4, 4\) and its volume \(4, 5\)"):
        anatomy_from_luna(np.zeros((4, 4)), np.zeros((4, 5), np.int16))


def test_a_single_slice_is_parted_into_its_organs_and_vessels_are_lung():
    hu, _, left, right, trachea = chest()
    anatomy = derive_anatomy(hu[None], Geometry((200, 200, 1), (1.7, 1.7, 2.5)))[0]
    assert dice(anatomy == LEFT_LUNG, left) > 0.99
    assert dice(anatomy == RIGHT_LUNG, right) > 0.99
    assert dice(anatomy == TRACHEA, trachea) > 0.9
    assert (anatomy[disc((100, 138), 5)] == LEFT_LUNG).all()


@pytest.mark.parametrize("sign", [(-1.0, -1.0, 1.0), (-1.0, 1.0, 1.0), (1.0, 1.0, -1.0)])
def test_left_and_right_follow_the_direction_matrix(sign):
    hu, _, left, *_ = chest()
    rows = tuple(tuple(row) for row in np.diag(sign).tolist())
    anatomy = derive_anatomy(hu[None], Geometry((200, 200, 1), (1.7, 1.7, 2.5), direction=rows))[0]
    side = LEFT_LUNG if sign[0] > 0 else RIGHT_LUNG
    assert dice(anatomy == side, left) > 0.99


def test_left_and_right_follow_a_matrix_that_swaps_rows_and_columns():
    hu, _, left, *_ = chest()
    swapped = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    hu[hu == -1000] = -999
    geometry = Geometry((200, 200, 1), (1.7, 1.7, 2.5), direction=swapped)
    anatomy = derive_anatomy(np.ascontiguousarray(hu.T)[None], geometry)[0]
    assert dice(anatomy == LEFT_LUNG, left.T) > 0.98


def test_lungs_that_touch_are_cut_along_the_pleura():
    mask = np.ones((2, 40, 80), bool)
    mask[:, 12:, 36:44] = False  # the mediastinum, behind
    hu = np.where(mask, -850, 40).astype(np.int16)
    pleura = 38 + np.arange(12) // 4
    hu[:, np.arange(12), pleura] = -600
    cut = separating_path(mask, hu)
    np.testing.assert_array_equal(cut[0, :12], pleura)
    assert not np.take_along_axis(mask[0], cut[0, :, None], axis=1)[12:].any()


def test_a_lung_that_reaches_over_the_middle_is_not_cut():
    hu, *_ = chest()
    hu[hu < 0] = np.where(disc((100, 100), 75.5)[hu < 0], 40, -1000)
    one = disc((100, 92), 45)
    hu[one] = -850
    anatomy = derive_anatomy(hu[None], Geometry((200, 200, 1), (1.7, 1.7, 2.5)))[0]
    assert (anatomy == LEFT_LUNG).sum() == 0
    assert dice(anatomy == RIGHT_LUNG, one) > 0.99


def test_gas_in_the_bowel_is_no_lung():
    hu, *_ = chest()
    gas = disc((150, 120), 12)
    hu[gas] = -995
    anatomy = derive_anatomy(np.stack([hu] * 3), Geometry((200, 200, 3), (1.7, 1.7, 2.5)))
    assert (anatomy[:, gas] == BODY).all()


@pytest.mark.parametrize("index", [0, 1, 2])  # plain, with a padding cylinder, mirrored
def test_phantoms(index):
    phantom = generate_phantom(3, index)
    hu, geometry = phantom.volume.hu, phantom.volume.geometry
    derived, truth = derive_anatomy(hu, geometry), phantom.anatomy
    assert dice(np.isin(derived, LUNGS), np.isin(truth, LUNGS)) >= 0.97
    for value in (*LUNGS, TRACHEA):
        assert dice(derived == value, truth == value) >= 0.97
    assert dice(derived > 0, truth > 0) >= 0.99
    # A selection of slices gives the same result as all of them.
    np.testing.assert_array_equal(derive_anatomy(hu, geometry, [50, 7, 30]), derived[[50, 7, 30]])


def test_a_phantom_upside_down():
    phantom = generate_phantom(3, 0)
    geometry = phantom.volume.geometry
    first, second, third = geometry.direction
    upside_down = replace(geometry, direction=(first, second, (0.0, 0.0, -third[2])))
    derived = derive_anatomy(np.ascontiguousarray(phantom.volume.hu[::-1]), upside_down)
    for value in (*LUNGS, TRACHEA):
        assert dice(derived == value, phantom.anatomy[::-1] == value) >= 0.97


@pytest.mark.real_data
@pytest.mark.skipif("LUNGFORGE_REAL_DATA" not in os.environ, reason="LUNGFORGE_REAL_DATA is not set")
def test_derived_lungs_against_the_masks_of_luna16_mini():
    mini = list_series(str(Path(os.environ["LUNGFORGE_REAL_DATA"]) / "luna16_mini")).entries
    union, swapped = [], []
    for entry in mini[::11]:
        volume = read_volume(entry.uri)
        mask = read_volume(entry.lung_mask_uri).hu
        derived = derive_anatomy(volume.hu, volume.geometry)
        left, right = mask == 3, mask == 4
        union.append(dice(np.isin(derived, LUNGS), left | right))
        wrong = ((derived == LEFT_LUNG) & right) | ((derived == RIGHT_LUNG) & left)
        swapped.append(wrong.sum() / (left | right).sum())
    assert len(union) == 40
    assert np.median(union) >= 0.99
    assert np.percentile(union, 5) >= 0.94
    assert max(swapped) < 0.02


@pytest.mark.real_data
@pytest.mark.skipif("LUNGFORGE_REAL_DATA" not in os.environ, reason="LUNGFORGE_REAL_DATA is not set")
def test_derived_anatomy_of_partial_scans_is_sensible():
    for entry in list_series(str(Path(os.environ["LUNGFORGE_REAL_DATA"]) / "luna16_stacks")).entries:
        volume = read_volume(entry.uri)
        derived = derive_anatomy(volume.hu, volume.geometry)
        for plane in derived:  # all of them cut both lungs and an airway
            pixel_cm2 = volume.geometry.spacing_mm[0] ** 2 / 100
            assert 60 < (plane == LEFT_LUNG).sum() * pixel_cm2 < 200
            assert 60 < (plane == RIGHT_LUNG).sum() * pixel_cm2 < 200
            assert 0.5 < (plane == TRACHEA).sum() * pixel_cm2 < 10
            assert np.nonzero(plane == LEFT_LUNG)[1].mean() > np.nonzero(plane == RIGHT_LUNG)[1].mean() + 100
            assert not np.isin(plane[[0, -1]], LUNGS).any()
            bottom = np.flatnonzero((plane > 0).any(axis=1))[-1]
            assert 400 < bottom < 512  # the table is below
        assert (volume.hu[derived == TRACHEA] < -400).mean() > 0.98
        assert not (derived[volume.hu < -1500]).any()  # padding is background

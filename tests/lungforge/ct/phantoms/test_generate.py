import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lungforge.ct.classes import BACKGROUND, BODY, LEFT_LUNG, RIGHT_LUNG, TRACHEA
from lungforge.ct.io.volume import read_volume
from lungforge.ct.phantoms.generate import Phantom, generate_phantom, write_phantoms

SERIES, SIZE, SLICES = 12, 128, 40


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [generate_phantom(5, index, size=SIZE, slices=SLICES) for index in range(SERIES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantoms")
    write_phantoms(str(out), series=SERIES, seed=5, size=SIZE, slices=SLICES)
    return out


def as_image(phantom: Phantom) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(phantom.volume.hu)
    geometry = phantom.volume.geometry
    image.SetOrigin(geometry.origin_mm)
    image.SetSpacing(geometry.spacing_mm)
    image.SetDirection(np.ravel(geometry.direction).tolist())
    return image


def test_a_seed_gives_the_same_bytes_and_another_gives_others(tmp_path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        write_phantoms(str(tmp_path / name), series=2, seed=seed, size=64, slices=12)
    assert checksums(tmp_path / "first") == checksums(tmp_path / "again")
    assert not set(checksums(tmp_path / "first").values()) & set(checksums(tmp_path / "other").values())


def test_traits_are_spread_over_the_indices(phantoms):
    mirrored = [phantom.volume.geometry.direction[0][0] == -1 for phantom in phantoms]
    assert [index for index, one in enumerate(mirrored) if one] == [2, 5, 8, 11]
    assert [phantom.volume.hu.min() for phantom in phantoms[:4]] == [-1024, -2000, -1024, -3024]
    assert [phantom.index for phantom in phantoms if not phantom.has_mask] == [4, 9]
    assert [phantom.index for phantom in phantoms if not phantom.nodules] == [7]


def test_nodules_are_where_simpleitk_maps_their_centres(phantoms):
    offsets = []
    for phantom in phantoms:
        image = as_image(phantom)
        for nodule in phantom.nodules:
            centre = (nodule.x_mm, nodule.y_mm, nodule.z_mm)
            x, y, z = image.TransformPhysicalPointToContinuousIndex(centre)
            radius = nodule.diameter_mm / 2 / phantom.volume.geometry.spacing_mm[0]
            rows, columns = np.ogrid[:SIZE, :SIZE]
            distance = np.hypot(columns - x, rows - y)
            slice_hu = phantom.volume.hu[round(z)]
            # Far brighter than the lung (about -870 HU), even where a pixel is wider than the nodule.
            assert slice_hu[distance < max(radius, 1)].max() > -650, nodule
            lung = np.isin(phantom.anatomy[round(z)], (LEFT_LUNG, RIGHT_LUNG))
            if radius > 1.5 and lung[distance < radius + 2].all():
                weight = np.where(distance < radius + 1, slice_hu + 900.0, 0).clip(0)
                offsets.append([(weight * (columns - x)).sum(), (weight * (rows - y)).sum()] / weight.sum())
    # Vessels beside a nodule pull its centre of mass to them, but none pulls all in one direction.
    assert len(offsets) >= 4
    assert np.abs(offsets).max() < 1
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.25


def test_diameters_range_from_small_to_large_and_some_touch_the_wall(phantoms):
    diameters = [nodule.diameter_mm for phantom in phantoms for nodule in phantom.nodules]
    assert 3.5 <= min(diameters) < 5.5
    assert 9 < max(diameters) <= 20


def test_the_truth_tells_left_from_right_in_the_patient(phantoms):
    for phantom in phantoms:
        middles = {}
        for value in (LEFT_LUNG, RIGHT_LUNG):
            points = np.argwhere(phantom.anatomy == value)[:, ::-1]
            middles[value] = phantom.volume.geometry.index_to_world(points).mean(axis=0)
        # World x runs to the patient's left (LPS).
        assert middles[LEFT_LUNG][0] - middles[RIGHT_LUNG][0] > 100
        assert set(np.unique(phantom.anatomy)) == {BACKGROUND, BODY, LEFT_LUNG, RIGHT_LUNG, TRACHEA}


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(LEFT_LUNG, -920, -780), (RIGHT_LUNG, -920, -780), (TRACHEA, -1010, -780), (BODY, 0, 80)],
)
def test_tissues_have_their_hounsfield_units(phantoms, value, low, high):
    for phantom in phantoms:
        assert low < np.median(phantom.volume.hu[phantom.anatomy == value]) < high


def test_files_are_laid_out_as_luna16(folder, phantoms):
    for phantom in phantoms:
        uid = phantom.volume.series_uid
        assert uid.startswith("2.25.")
        assert len(uid) <= 64
        image = SimpleITK.ReadImage(str(folder / f"subset{phantom.index % 10}" / f"{uid}.mhd"))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), phantom.volume.hu)
        assert (
            read_volume(str(folder / f"subset{phantom.index % 10}" / f"{uid}.mhd")).geometry
            == phantom.volume.geometry
        )
        assert image.GetDirection() == tuple(np.ravel(phantom.volume.geometry.direction))
        mask = folder / "seg-lungs-LUNA16" / f"{uid}.mhd"
        assert mask.exists() == phantom.has_mask
        if phantom.has_mask:
            values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(mask)))
            for value, expected in ((3, LEFT_LUNG), (4, RIGHT_LUNG), (5, TRACHEA)):
                np.testing.assert_array_equal(values == value, phantom.anatomy == expected)


def test_candidates_are_every_nodule_and_vessels_away_from_them(folder, phantoms):
    with (folder / "candidates_V2.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"seriesuid", "coordX", "coordY", "coordZ", "class"}
    assert sum(row["class"] == "1" for row in rows) == sum(len(phantom.nodules) for phantom in phantoms)
    for phantom in phantoms:
        for candidate in phantom.candidates:
            if candidate.label == 0:
                point = np.array([candidate.x_mm, candidate.y_mm, candidate.z_mm])
                x, y, z = np.rint(phantom.volume.geometry.world_to_index(point)).astype(int)
                around = phantom.anatomy[z, y - 1 : y + 2, x - 1 : x + 2]
                assert np.isin(around, (LEFT_LUNG, RIGHT_LUNG)).any()
                for nodule in phantom.nodules:
                    distance = np.linalg.norm(point - (nodule.x_mm, nodule.y_mm, nodule.z_mm))
                    assert distance > nodule.diameter_mm / 2 + 11

"""Volumes in this process: read as they are stored, and sliced as preprocessing slices them."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

import lungforge
from lungforge.ct.classes import LUNA16_MASK_VALUES, NODULE
from lungforge.ct.phantoms.generate import generate_phantom, write_phantoms
from lungforge.errors import ContentError, InputError
from services.preprocess.config import PreprocessConfig
from services.preprocess.plan import plan_volume
from services.preprocess.survey import survey
from services.preprocess.volume import make_rows

SIZE, SLICES = 96, 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("luna16")
    write_phantoms(str(folder), series=3, seed=1, size=SIZE, slices=SLICES)
    return folder


def test_a_volume_is_read_with_its_axes(source: Path) -> None:
    """The third phantom is stored turned by 180 degrees."""
    (path,) = source.glob("subset2/*.mhd")
    scan, image = lungforge.read_volume(str(path)), SimpleITK.ReadImage(str(path))
    assert scan.series_uid == path.stem
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(image))
    assert scan.hu.shape == (SLICES, SIZE, SIZE)
    assert scan.geometry.spacing_mm == pytest.approx(image.GetSpacing())
    assert scan.geometry.origin_mm == pytest.approx(image.GetOrigin())
    assert np.ravel(scan.geometry.direction).tolist() == pytest.approx(image.GetDirection())
    assert scan.geometry.direction[0][0] == -1


@pytest.mark.parametrize(("masks", "size"), [("luna16", None), ("derived", 64)])
def test_slices_are_those_of_preprocessing(source: Path, masks: str, size: int | None) -> None:
    config = PreprocessConfig(source=str(source), out="unused", masks=masks, size=size)  # type: ignore[arg-type]
    compared = 0
    for volume in survey(config).volumes:
        expected, _ = make_rows(volume, plan_volume(volume, config), config)
        phantom = generate_phantom(1, volume.entry.subset, size=SIZE, slices=SLICES)
        values = np.zeros(256, np.uint8)
        values[list(LUNA16_MASK_VALUES)] = list(LUNA16_MASK_VALUES.values())
        rows = lungforge.slice_volume(
            lungforge.read_volume(volume.entry.uri),
            [row["slice_index"] for row in expected],
            nodules=[(*nodule.point_mm, nodule.diameter_mm) for nodule in volume.annotations],
            size=size,
            lung_mask=values[phantom.anatomy] if masks == "luna16" else None,
        )
        for row, other in zip(rows, expected, strict=True):
            assert np.array_equal(row.image, other["image"])
            assert np.array_equal(row.label, other["label"])
            assert list(row.nodules) == other["nodules"]
            assert list(row.spacing_mm) == other["spacing_mm"]
            assert row.series_uid == other["series_uid"]
            compared += 1
    assert compared >= 4


def test_without_indices_slices_go_through_the_nodules() -> None:
    phantom = generate_phantom(0, 0, size=SIZE, slices=SLICES)
    nodules = [(*nodule.point_mm, nodule.diameter_mm) for nodule in phantom.nodules]
    rows = lungforge.slice_volume(phantom.volume, nodules=nodules, size=64)
    z = phantom.volume.geometry.world_to_index([nodule[:3] for nodule in nodules])[:, 2]
    assert [row.slice_index for row in rows] == sorted(set(np.rint(z).astype(int).tolist()))
    assert all((row.label == NODULE).any() for row in rows)


def test_spacing_crops_and_pads() -> None:
    phantom = generate_phantom(0, 0, size=SIZE, slices=SLICES)
    (row,) = lungforge.slice_volume(phantom.volume, [12], size=48, spacing_mm=4.0)
    assert row.spacing_mm == (4.0, 4.0)
    assert row.image.shape == row.label.shape == (48, 48)


def test_what_cannot_be_sliced_is_named(source: Path) -> None:
    phantom = generate_phantom(0, 0, size=SIZE, slices=SLICES)
    with pytest.raises(InputError, match="no slice is chosen: give indices, or nodules"):
        lungforge.slice_volume(phantom.volume)
    with pytest.raises(InputError, match="there is no slice 24; the slices are 0 to 23"):
        lungforge.slice_volume(phantom.volume, [0, 24])
    with pytest.raises(InputError, match=r"lies outside .*; give centres in mm"):
        lungforge.slice_volume(phantom.volume, nodules=[(9999.0, 0.0, 0.0, 5.0)])
    with pytest.raises(InputError, match=r"the lung mask has the shape \(2, 2, 2\)"):
        lungforge.slice_volume(phantom.volume, [0], lung_mask=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="there is no such file or folder"):
        lungforge.read_volume(str(source / "missing.mhd"))
    (mask, *_) = sorted(source.glob("seg-lungs-LUNA16/*.mhd"))
    with pytest.raises(ContentError, match="a mask, not a CT"):
        lungforge.slice_volume(lungforge.read_volume(str(mask)), [3])

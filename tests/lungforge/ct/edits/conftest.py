"""Maps to edit: (label, nodules, spacing_mm) of phantoms and of LUNA16."""

import os
from pathlib import Path

import numpy as np
import pytest

from lungforge.ct.io.luna16 import list_series
from lungforge.ct.io.volume import Volume, read_volume
from lungforge.ct.nodules import nodules_in_slice, read_annotations, sphere_nodules
from lungforge.ct.phantoms.generate import generate_phantom
from lungforge.ct.resize import PixelMap, resize_slice
from lungforge.ct.segmentation.anatomy import anatomy_from_luna

Map = tuple[np.ndarray, tuple[dict[str, float], ...], tuple[float, float]]


def maps_of(volume: Volume, anatomy: np.ndarray, annotations: list, index: int, sizes: tuple) -> list[Map]:
    hu, geometry = volume.hu[index], volume.geometry
    nodules, _ = sphere_nodules(annotations, geometry)
    present = nodules_in_slice(nodules, index, hu, geometry)
    maps = []
    for size in sizes:
        pixel_map = PixelMap.fit(hu.shape, (geometry.spacing_mm[1], geometry.spacing_mm[0]), size=size)
        _, label, shown = resize_slice(hu, anatomy, present, pixel_map)
        maps.append((label, tuple(nodule.row() for nodule in shown), pixel_map.spacing_mm))
    return maps


@pytest.fixture(scope="session")
def phantom_maps() -> list[Map]:
    """Every second slice of the phantoms that a nodule crosses, and some that none does."""
    maps = []
    for number in range(4):
        phantom = generate_phantom(3, number, size=128, slices=30)
        for index in range(4, 26, 2):
            annotations = list(phantom.nodules)
            maps += maps_of(phantom.volume, phantom.anatomy[index], annotations, index, (32, 128))
    return maps


@pytest.fixture(scope="session")
def real_maps() -> list[Map]:
    """Forty slices of LUNA16, at three sizes."""
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder or not (Path(folder) / "luna16_mini").is_dir():
        pytest.skip("LUNGFORGE_REAL_DATA names no folder with luna16_mini")
    listing = list_series(str(Path(folder).resolve() / "luna16_mini"))
    annotations = read_annotations(str(listing.annotations_uri))
    maps = []
    for entry in listing.entries[::10][:40]:
        volume, mask = read_volume(entry.uri), read_volume(str(entry.lung_mask_uri))
        anatomy = anatomy_from_luna(mask.hu[0], volume.hu[0])
        maps += maps_of(volume, anatomy, annotations[entry.series_uid], 0, (32, 64, 256))
    return maps

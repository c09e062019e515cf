import math
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lungforge.ct.geometry import IDENTITY, Geometry
from lungforge.ct.io.volume import read_volume
from lungforge.ct.nodules import (
    Annotation,
    nodules_in_slice,
    read_annotations,
    refine_by_intensity,
    sphere_nodules,
    two_means_threshold,
)

PRONE = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
c, s = math.cos(0.3), math.sin(0.3)
TURNED = ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))
TILTED = ((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c))


def world_of(geometry: Geometry) -> sitk.Image:
    """An image whose voxels hold their world points."""
    return sitk.PhysicalPointSource(
        sitk.sitkVectorFloat64,
        geometry.size,
        geometry.origin_mm,
        geometry.spacing_mm,
        np.ravel(geometry.direction).tolist(),
    )


# Half-way between two voxels either may be taken for the nearest.
coordinate = st.floats(0, 11).filter(lambda value: abs(value % 1 - 0.5) > 1e-3)


@settings(max_examples=40, deadline=None)
@given(
    direction=st.sampled_from([IDENTITY, PRONE, TURNED, TILTED]),
    spacing=st.tuples(*[st.floats(0.5, 2.5)] * 3),
    index=st.tuples(coordinate, coordinate, coordinate),
    diameter=st.floats(0.1, 12),
)
def test_discs_are_the_voxels_within_the_radius_by_the_mapping_of_simpleitk(
    direction: tuple, spacing: tuple, index: tuple, diameter: float
) -> None:
    geometry = Geometry((24, 20, 12), spacing, (-100.0, 50.0, 7.0), direction)
    image = world_of(geometry)
    point = image.TransformContinuousIndexToPhysicalPoint(index)
    (nodule,), outside = sphere_nodules([Annotation("1", *point, diameter)], geometry)
    assert outside == []
    np.testing.assert_allclose(nodule.centre, image.TransformPhysicalPointToContinuousIndex(point), atol=1e-6)

    marked = np.zeros((12, 20, 24), bool)
    for slice_index, mask in nodule.masks.items():
        assert mask.any()
        marked[slice_index] = mask
    distance = np.linalg.norm(sitk.GetArrayViewFromImage(image) - point, axis=-1)
    nearest = tuple(np.rint(index[::-1]).astype(int))
    expected = distance <= diameter / 2
    expected[nearest] = True
    clear = np.abs(distance - diameter / 2) > 1e-6  # on the surface itself rounding may decide
    np.testing.assert_array_equal(marked[clear], expected[clear])
    assert marked[nearest]
    assert nodule.centre_slice == nearest[0]


def test_a_tiny_nodule_between_two_pixels_is_one_pixel_of_the_nearest_slice() -> None:
    geometry = Geometry((8, 8, 4), (0.7, 0.7, 2.5))
    (nodule,), _ = sphere_nodules([Annotation("1", 2.4 * 0.7, 3.6 * 0.7, 1.4 * 2.5, 0.2)], geometry)
    assert {z: np.argwhere(mask).tolist() for z, mask in nodule.masks.items()} == {1: [[4, 2]]}


def test_a_nodule_outside_is_reported_and_one_that_reaches_in_is_kept() -> None:
    geometry = Geometry((20, 20, 1), (1, 1, 1))
    beyond, reaching = Annotation("1", 5, 5, 8, 6), Annotation("1", 5, 5, 3, 8)
    (nodule,), (reason,) = sphere_nodules([beyond, reaching], geometry)
    assert "(5, 5, 8) mm lies outside its volume" in reason
    # 3 mm from the centre of a sphere of radius 4, the disc's radius is sqrt(7) = 2.6 mm.
    assert nodule.masks[0].sum() == sum(x * x + y * y <= 7 for x in range(-3, 4) for y in range(-3, 4))
    assert nodule.centre_slice == 0


def test_a_slice_lists_its_nodules_with_their_whole_diameter_and_projected_centre() -> None:
    geometry = Geometry((40, 40, 9), (0.5, 0.8, 2.0))
    annotations = [Annotation("1", 10, 10, 8, 10), Annotation("1", 12, 12, 16, 4)]
    nodules, _ = sphere_nodules(annotations, geometry)
    hu = np.full((40, 40), -850, np.int16)
    (nodule,) = nodules_in_slice(nodules, 2, hu, geometry)
    expected = {"x": 20, "y": 12.5, "diameter_px": 10 / math.sqrt(0.4), "diameter_mm": 10}
    assert nodule.row() == pytest.approx(expected)
    np.testing.assert_array_equal(nodule.mask, nodules[0].masks[2])
    assert [len(nodules_in_slice(nodules, z, hu, geometry)) for z in range(9)] == [0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert len(nodules_in_slice([*nodules, nodules[0]], 4, hu, geometry)) == 2


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.hypot(x, y) <= radius


def test_refinement_finds_the_bright_nodule_within_and_around_its_disc() -> None:
    blob = np.zeros((31, 31), bool)
    blob[11:21, 13:19] = True
    hu = np.where(blob, 40, -850).astype(np.int16)
    hu[blob] += np.arange(blob.sum()).astype(np.int16) % 30
    marked = disc(31, 5)
    refined = refine_by_intensity(marked, hu)
    near = ndimage.binary_dilation(marked, np.ones((5, 5)))
    np.testing.assert_array_equal(refined, blob & near)
    assert (refined & ~marked).any(), "the blob is longer than the disc"


def test_a_bright_rib_that_does_not_touch_the_disc_is_left_out() -> None:
    marked = disc(31, 4)
    hu = np.full((31, 31), -850, np.int16)
    hu[disc(31, 2)] = 0
    hu[9] = 400  # inside the dilated disc, two rows above the disc
    np.testing.assert_array_equal(refine_by_intensity(marked, hu), disc(31, 2))


def test_without_contrast_or_with_nothing_bright_near_the_disc_stays() -> None:
    marked = disc(31, 4)
    flat = np.full((31, 31), 30, np.int16)
    np.testing.assert_array_equal(refine_by_intensity(marked, flat), marked)
    padded = np.where(disc(31, 3), -2048, -1500).astype(np.int16)  # both black in the window
    np.testing.assert_array_equal(refine_by_intensity(marked, padded), marked)
    ring = np.where(ndimage.binary_dilation(marked), -850, 100).astype(np.int16)
    ring[ndimage.binary_dilation(marked, np.ones((3, 3)))] = -850
    np.testing.assert_array_equal(refine_by_intensity(marked, ring), marked)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), radius=st.floats(0.5, 8), x=st.integers(0, 30), y=st.integers(0, 30))
def test_refinement_never_leaves_the_dilated_disc_and_is_never_empty(
    seed: int, radius: float, x: int, y: int
) -> None:
    marked = np.roll(disc(31, radius), (y - 15, x - 15), (0, 1)) if radius < 1 else disc(31, radius)
    hu = np.random.default_rng(seed).integers(-1200, 600, (31, 31)).astype(np.int16)
    refined = refine_by_intensity(marked, hu)
    assert refined.any()
    assert not (refined & ~ndimage.binary_dilation(marked, np.ones((5, 5)))).any()
    np.testing.assert_array_equal(refined, refine_by_intensity(marked, hu))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1000, 400), min_size=2, max_size=12))
def test_the_threshold_is_the_best_of_all_splits(values: list[int]) -> None:
    def scatter(threshold: float) -> float:
        array = np.array(values, float)
        return sum(part.var() * part.size for part in (array[array <= threshold], array[array > threshold]))

    threshold = two_means_threshold(values)
    distinct = sorted(set(values))
    if threshold is None:
        assert len(distinct) == 1
    else:
        best = min(scatter(low) for low in distinct[:-1])
        assert scatter(threshold) == pytest.approx(best, abs=1e-6)


@pytest.mark.real_data
@pytest.mark.skipif("LUNGFORGE_REAL_DATA" not in os.environ, reason="LUNGFORGE_REAL_DATA is not set")
def test_every_annotated_nodule_of_real_slices_is_marked_and_bright() -> None:
    folder = Path(os.environ["LUNGFORGE_REAL_DATA"]) / "luna16_mini"
    annotations = read_annotations(str(folder / "annotations.csv"))
    contrast = []
    for path in sorted(folder.glob("subset*/*.mhd"))[::8]:
        volume = read_volume(str(path))
        nodules, outside = sphere_nodules(annotations[path.stem], volume.geometry)
        assert outside == []
        for nodule in nodules_in_slice(nodules, 0, volume.hu[0], volume.geometry):
            ring = ndimage.binary_dilation(nodule.mask, iterations=3) & ~nodule.mask
            contrast.append(volume.hu[0][nodule.mask].mean() - volume.hu[0][ring].mean())
    assert len(contrast) > 50
    assert min(contrast) > 0
    assert np.median(contrast) > 300

"""Geometry against SimpleITK, whose mapping is the reference."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lungforge.ct.geometry import IDENTITY, Geometry, VolumeError, as_rows, to_int16

MIRRORED = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
finite = st.floats(-500, 500)


@st.composite
def geometries(draw):
    # Of directions with a cosine of 1e-294, SimpleITK's inverse is NaN.
    angle = st.floats(-180, 180).map(lambda degrees: round(degrees, 9))
    angles = draw(st.tuples(angle, angle, angle))
    oblique = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    flips = np.diag(draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3)))
    return Geometry(
        size=draw(st.tuples(*[st.integers(1, 512)] * 3)),
        spacing_mm=draw(st.tuples(*[st.floats(0.3, 5)] * 3)),
        origin_mm=draw(st.tuples(finite, finite, finite)),
        direction=draw(st.sampled_from([IDENTITY, MIRRORED, as_rows(oblique @ flips)])),
    )


def itk_image(geometry):
    image = sitk.Image(1, 1, 1, sitk.sitkInt16)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(np.ravel(geometry.direction).tolist())
    return image


@settings(deadline=None)
@given(geometries(), st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=5))
def test_mapping_equals_simpleitk(geometry, points):
    image = itk_image(geometry)
    expected = [image.TransformPhysicalPointToContinuousIndex(point) for point in points]
    np.testing.assert_allclose(geometry.world_to_index(points), expected, rtol=1e-9, atol=1e-7)
    expected = [image.TransformContinuousIndexToPhysicalPoint(point) for point in points]
    np.testing.assert_allclose(geometry.index_to_world(points), expected, rtol=1e-9, atol=1e-7)


def test_a_mirrored_scan_has_no_negative_indices():
    geometry = Geometry((512, 512, 100), (0.7, 0.7, 2.5), (180.0, 170.0, -300.0), MIRRORED)
    np.testing.assert_allclose(geometry.world_to_index([[110.0, -180.0, -50.0]]), [[100.0, 500.0, 100.0]])


def test_contains_reaches_half_a_voxel_past_the_outer_centres():
    geometry = Geometry((10, 20, 30), (1.0, 1.0, 1.0))
    points = [[-0.5, 0, 0], [-0.6, 0, 0], [9.5, 19.5, 29.5], [9.6, 0, 0], [0, 0, 29.6]]
    assert geometry.contains(points).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": (0, 5, 5)}, "the size is 0 5 5 voxels"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "the spacing is 0 1 1 mm"),
        ({"spacing_mm": (1.0, -1.0, 1.0)}, "the spacing is 1 -1 1 mm"),
        ({"spacing_mm": (1.0, 1.0, float("nan"))}, "the spacing is 1 1 nan mm"),
        ({"origin_mm": (float("inf"), 0.0, 0.0)}, "the origin is inf 0 0 mm"),
        ({"direction": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))}, "has no inverse"),
    ],
)
def test_an_impossible_grid_is_refused(change, reason):
    with pytest.raises(VolumeError, match=reason):
        Geometry(**{"size": (5, 5, 5), "spacing_mm": (1.0, 1.0, 1.0), **change})


def test_values_become_int16_or_are_refused():
    assert to_int16(np.array([-3024.4, 100.6])).tolist() == [-3024, 101]
    assert to_int16(np.array([65000 - 65536], np.int32)).dtype == np.int16
    for values in (np.array([40000], np.uint16), np.array([np.nan, 1.0]), np.array([-1e9])):
        with pytest.raises(VolumeError, match="fit into int16"):
            to_int16(values)

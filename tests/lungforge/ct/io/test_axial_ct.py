"""The gate: what is used as CT is axial, in Hounsfield units, and of the chest."""

import dataclasses

import numpy as np
import pytest

from lungforge.ct.geometry import Geometry, as_rows
from lungforge.ct.io.axial_ct import (
    VolumeHeader,
    check_header,
    check_lungs,
    check_values,
    plane_of,
)
from lungforge.ct.io.volume import VolumeError, read_header
from lungforge.ct.phantoms.generate import generate_phantom
from lungforge.ct.phantoms.writing import write_metaimage
from tests.dicom_files import CORONAL, write_series

HEADER = VolumeHeader(
    geometry=Geometry((4, 4, 4), (1.0, 1.0, 1.0)),
    modality="CT",
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    rescale_type="HU",
    lowest=-1024.0,
    stored_as="stored values",
)


def turned(*degrees, axis):
    """The matrix of a rotation about x, y or z."""
    (angle,) = np.radians(degrees)
    matrix = np.eye(3)
    i, j = [index for index in range(3) if index != axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


SHEARED = np.array([[1.0, 0, 0], [0, np.cos(0.2), 0], [0, np.sin(0.2), 1]])
PLANES = {
    "as LUNA16 has them": (np.eye(3), "axial"),
    "as LUNA16 has some": (np.diag([-1.0, -1, 1]), "axial"),
    "from the head down": (np.diag([1.0, 1, -1]), "axial"),
    "prone": (np.diag([-1.0, -1, 1]), "axial"),
    "turned in their plane": (turned(90, axis=2), "axial"),
    "turned by 37 degrees in their plane": (turned(37, axis=2), "axial"),
    "a little inclined": (turned(14, axis=0), "axial"),
    "a tilted gantry": (SHEARED, "axial"),
    "coronal": (np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), "coronal"),
    "coronal, otherwise": (turned(-90, axis=0), "coronal"),
    "sagittal": (np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]), "sagittal"),
    "nearly sagittal": (turned(80, axis=1), "sagittal"),
    "oblique": (turned(30, axis=0), "oblique"),
    "half of the way": (turned(45, axis=1), "oblique"),
}


@pytest.mark.parametrize("case", PLANES)
def test_the_plane_of_slices(case):
    matrix, plane = PLANES[case]
    geometry = Geometry((4, 4, 4), (0.7, 0.7, 2.5), direction=as_rows(matrix))
    assert plane_of(geometry) == plane
    header = dataclasses.replace(HEADER, geometry=geometry)
    if plane == "axial":
        check_header("SCAN", header)
    else:
        with pytest.raises(VolumeError, match=f"SCAN: its slices are {plane}, not axial"):
            check_header("SCAN", header)


GOOD_HEADERS = [
    {},
    {"modality": ""},
    {"image_type": ()},
    {"image_type": ("DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI")},
    {"image_type": ("DERIVED", "SECONDARY")},
    {"rescale_type": ""},
    {"rescale_type": "US"},
    {"lowest": -32768.0},
    {"lowest": -1000.0},
]
BAD_HEADERS = [
    ({"modality": "MR"}, "SCAN: its modality is MR, not CT"),
    ({"modality": "PT"}, "its modality is PT, not CT"),
    ({"modality": "RTDOSE"}, "its modality is RTDOSE, not CT"),
    (
        {"image_type": ("DERIVED", "SECONDARY", "MIP")},
        r"maximum intensity .*ImageType DERIVED\\SECONDARY\\MIP",
    ),
    ({"image_type": ("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP")}, "a maximum intensity projection"),
    ({"image_type": ("DERIVED", "PRIMARY", "PROJECTION IMAGE")}, "a projection"),
    ({"image_type": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")}, "a reformatted series"),
    ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "a localizer"),
    ({"rescale_type": "MGML"}, r"its values are MGML \(RescaleType\), not Hounsfield units"),
    ({"lowest": 0.0, "stored_as": "MET_UCHAR"}, r"values \(MET_UCHAR\) cannot be below 0, .* air is -1000"),
    ({"lowest": -128.0, "stored_as": "MET_CHAR"}, r"values \(MET_CHAR\) cannot be below -128"),
]


@pytest.mark.parametrize("changes", GOOD_HEADERS)
def test_headers_of_sound_scans_pass(changes):
    check_header("SCAN", dataclasses.replace(HEADER, **changes))


@pytest.mark.parametrize(("changes", "reason"), BAD_HEADERS)
def test_headers_of_other_things_are_refused_by_name(changes, reason):
    with pytest.raises(VolumeError, match=reason):
        check_header("SCAN", dataclasses.replace(HEADER, **changes))


@pytest.fixture(scope="module")
def hu():
    return generate_phantom(3, 0, size=64, slices=12).volume.hu


SOUND = {
    "as it is": lambda hu: hu,
    "padding": lambda hu: np.where(corners(hu), np.int16(-3024), hu),
    "padding of 0 HU": lambda hu: np.where(corners(hu), np.int16(0), hu),
    "metal": lambda hu: np.where(np.arange(64) == 30, np.int16(3071), hu),
    "air of -1024": lambda hu: np.where(hu < -990, np.int16(-1024), hu),
    "one slice": lambda hu: hu[6:7],
    "cropped": lambda hu: hu[:, 20:44, 10:50],
}
UNSOUND = {
    "a lung mask": (lambda hu: np.where(hu < -500, 3, 0), "only 2 different ones: a mask, not a CT"),
    "classes": (lambda hu: np.digitize(hu, [-900, -300, 0, 50, 200]), "different ones: a mask, not a CT"),
    "a mask of -1000 and 0": (lambda hu: np.where(hu < -500, -1000, 0), "a mask, not a CT"),
    "from 0 to 1": (lambda hu: np.clip((hu + 1000) / 1400, 0, 1).round(), "a mask, not a CT"),
    "without intercept": (lambda hu: hu + 1024, "none is negative, so they are no Hounsfield units"),
    "8 bits": (lambda hu: np.clip((hu + 1000) / 1400 * 255, 0, 255), "none is negative"),
    "without intercept, padded": (
        lambda hu: np.where(corners(hu), -2000, hu + 1024),
        r"from -2000 to \d+, with no air \(-1000 HU\) among them",
    ),
    "noise about 0": (lambda hu: hu // 10 + 60, "with no air"),
    "intercept taken twice": (lambda hu: hu - 1024, "with no soft tissue"),
}


def corners(hu):
    y, x = np.ogrid[-1 : 1 : hu.shape[1] * 1j, -1 : 1 : hu.shape[2] * 1j]
    return np.broadcast_to(x**2 + y**2 > 1, hu.shape)


@pytest.mark.parametrize("case", SOUND)
def test_values_of_sound_scans_pass(hu, case):
    check_values("SCAN", SOUND[case](hu))


@pytest.mark.parametrize("case", UNSOUND)
def test_values_that_are_no_hounsfield_units_are_refused(hu, case):
    change, reason = UNSOUND[case]
    with pytest.raises(VolumeError, match=reason):
        check_values("SCAN", change(hu.astype(np.int32)).astype(np.int16))


def test_no_slices_prove_nothing():
    check_values("SCAN", [])


def test_a_volume_without_lungs_is_refused():
    anatomy = np.ones((2, 4, 4), np.uint8)
    with pytest.raises(VolumeError, match="SCAN: no lung is found in it"):
        check_lungs("SCAN", anatomy)
    anatomy[1, 2, 2] = 3
    check_lungs("SCAN", anatomy)


def test_what_dicom_headers_state(tmp_path):
    header = read_header(str(write_series(tmp_path / "ct", RescaleType="HU")))
    assert dataclasses.replace(header, geometry=HEADER.geometry) == HEADER
    plain = read_header(str(write_series(tmp_path / "plain", RescaleIntercept=None, RescaleSlope=None)))
    assert (plain.lowest, plain.stored_as) == (0.0, "stored values without RescaleIntercept")
    signed = read_header(str(write_series(tmp_path / "signed", PixelRepresentation=1, RescaleIntercept=0)))
    assert signed.lowest == -32768.0
    coronal = read_header(str(write_series(tmp_path / "c", (0.0,), orientation=CORONAL, Modality="MR")))
    assert (coronal.modality, plane_of(coronal.geometry)) == ("MR", "coronal")


def test_what_metaimage_headers_state(tmp_path):
    geometry = Geometry((3, 3, 3), (1.0, 1.0, 1.0))
    for dtype, lowest, stored_as in ((np.uint8, 0.0, "MET_UCHAR"), (np.int16, -32768.0, "MET_SHORT")):
        path = f"{tmp_path}/{stored_as}.mhd"
        write_metaimage(path, np.zeros((3, 3, 3), dtype), geometry)
        header = read_header(path)
        assert (header.modality, header.lowest, header.stored_as) == ("", lowest, stored_as)
    text = (tmp_path / "MET_SHORT.mhd").read_text(encoding="utf-8")
    (tmp_path / "MET_SHORT.mhd").write_text("Modality = MET_MOD_MR\n" + text, encoding="utf-8")
    assert read_header(path).modality == "MR"

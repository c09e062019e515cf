"""DICOM files, read with pydicom and highdicom."""

import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from lungforge.ct import classes
from lungforge.ct.io.volume import read_volume
from lungforge.datasets import Kind
from lungforge.errors import InputError
from services.export.config import ExportConfig
from services.export.job import run


def exported(build, tmp_path: Path, kind: Kind, *rows) -> Path:
    dataset = build.dataset(kind, list(rows), name=f"{kind}-data")
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / kind), format="dicom"))
    return tmp_path / kind


def test_hounsfield_units_place_and_spacing_come_back(build, tmp_path: Path) -> None:
    row = build.slice()
    row["image"][0, :2] = (-32768, 32767)
    out = exported(build, tmp_path, Kind.SLICES, row)
    ct = pydicom.dcmread(out / "real_1.2.3_z0003_ct.dcm")
    hu = ct.pixel_array * ct.RescaleSlope + ct.RescaleIntercept
    np.testing.assert_array_equal(hu, row["image"])
    assert ct.PixelSpacing == [2.0, 0.75], "row, column"
    assert ct.ImagePositionPatient == [0, 0, -10.0]
    assert ct.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert (ct.SyntheticData, ct.ImageType[0], ct.Modality) == ("NO", "DERIVED", "CT")
    image = SimpleITK.ReadImage(out / "real_1.2.3_z0003_ct.dcm")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image)[0], row["image"])
    assert (image.GetSpacing()[:2], image.GetOrigin()) == ((0.75, 2.0), (0.0, 0.0, -10.0))
    assert image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    # And by the reader of LungForge, which refuses what is no axial CT.
    volume = read_volume(str(out), files=[str(out / "real_1.2.3_z0003_ct.dcm")])
    np.testing.assert_array_equal(volume.hu[0], row["image"])


def test_the_frames_of_the_segmentation_are_the_classes_of_the_map(build, tmp_path: Path) -> None:
    row = build.slice()
    out = exported(build, tmp_path, Kind.SLICES, row)
    ct = pydicom.dcmread(out / "real_1.2.3_z0003_ct.dcm")
    segmentation = highdicom.seg.segread(out / "real_1.2.3_z0003_seg.dcm")
    frames = segmentation.get_pixels_by_source_instance([ct.SOPInstanceUID])[0]
    names = [segmentation.get_segment_description(number).segment_label for number in (1, 2, 3, 4)]
    assert names == ["body", "left lung", "right lung", "nodule"]
    for index, name in enumerate(names):
        np.testing.assert_array_equal(frames[..., index], row["label"] == classes.NAMES.index(name))
    assert segmentation.segmentation_type.value == "BINARY"
    assert (segmentation.StudyInstanceUID, segmentation.FrameOfReferenceUID) == (
        ct.StudyInstanceUID,
        ct.FrameOfReferenceUID,
    )


def test_a_synthetic_one_says_so_in_every_place_a_viewer_shows(build, tmp_path: Path) -> None:
    out = exported(build, tmp_path, Kind.SAMPLES, build.sample("0123abcd"))
    ct = pydicom.dcmread(out / "synthetic_0123abcd_ct.dcm")
    assert ct.SyntheticData == "YES"
    assert ct.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert str(ct.PatientName) == "SYNTHETIC^LungForge"
    assert ct.PatientID == "SYNTHETIC-0123abcd"
    assert ct.SeriesDescription.startswith("SYNTHETIC CT")
    assert "ab" * 32 in ct.ImageComments
    assert pydicom.dcmread(out / "synthetic_0123abcd_seg.dcm").SeriesDescription.startswith("SYNTHETIC map")


def test_slices_of_a_scan_are_one_series_and_uids_are_new_and_valid(build, tmp_path: Path) -> None:
    rows = [build.slice(3), build.slice(4), build.slice(3, uid="1.2.4")]
    out = exported(build, tmp_path, Kind.SLICES, *rows)
    images = [pydicom.dcmread(path) for path in sorted(out.glob("*_ct.dcm"))]
    assert len({image.SOPInstanceUID for image in images}) == 3
    assert len({image.SeriesInstanceUID for image in images}) == 2
    assert len({image.StudyInstanceUID for image in images}) == 2
    assert images[0].SeriesInstanceUID == images[1].SeriesInstanceUID
    assert [image.InstanceNumber for image in images] == [4, 5, 4]
    for image in images:
        uids = (image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID)
        assert all(uid.is_valid and str(uid) not in {"1.2.3", "1.2.4"} for uid in uids)


def test_a_map_of_background_alone_has_no_segmentation(build, tmp_path: Path) -> None:
    row = build.slice(healthy=True)
    row["label"][:] = classes.BACKGROUND
    out = exported(build, tmp_path, Kind.SLICES, row)
    assert [path.name for path in out.glob("*.dcm")] == ["real_1.2.3_z0003_ct.dcm"]


def test_without_highdicom_one_line_says_what_to_install(
    samples: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(
        InputError, match=r"^--format dicom needs highdicom: pip install 'lungforge\[dicom\]'$"
    ):
        run(ExportConfig(data=(samples,), out=str(tmp_path / "out"), format="dicom"))
    assert not (tmp_path / "out").exists()

"""DICOM series: written with pydicom, read through GDCM, compared with SimpleITK's series reader."""

import fsspec
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fsspec.implementations.local import LocalFileSystem

from lungforge.ct.io.volume import VolumeError, read_geometry, read_slices, read_volume
from lungforge.errors import AccessError, ContentError, InputError
from tests.dicom_files import AXIAL, UID, stored, write_series, write_slice


def test_a_series_is_sorted_by_position_and_rescaled(tmp_path):
    folder = write_series(tmp_path / "series", slope=2.0)
    volume = read_volume(str(folder))
    assert volume.series_uid == UID
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, stored().astype(int) * 2 - 1024)
    assert volume.geometry.size == (7, 6, 5)
    assert volume.geometry.spacing_mm == (0.7, 0.8, 2.5)
    assert volume.geometry.origin_mm == (-100.5, 20.25, -10.0)
    assert read_geometry(str(folder)) == volume.geometry
    np.testing.assert_array_equal(read_slices(str(folder), [4, 1]), volume.hu[[4, 1]])


@pytest.mark.parametrize("orientation", [AXIAL, (-1.0, 0, 0, 0, -1.0, 0), (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_the_geometry_is_that_of_simpleitk(tmp_path, orientation):
    folder = write_series(tmp_path / "series", orientation=orientation)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    geometry = read_geometry(str(folder))
    np.testing.assert_allclose(geometry.spacing_mm, image.GetSpacing())
    np.testing.assert_allclose(geometry.origin_mm, image.GetOrigin())
    np.testing.assert_allclose(np.ravel(geometry.direction), image.GetDirection(), atol=1e-9)


def test_a_fractional_slope_is_rounded(tmp_path):
    volume = read_volume(str(write_series(tmp_path / "series", slope=0.5)))
    np.testing.assert_array_equal(volume.hu, np.rint(stored() * 0.5 - 1024))


def test_a_series_of_one_slice_has_its_thickness(tmp_path):
    volume = read_volume(str(write_series(tmp_path / "series", positions=(-10.0,))))
    assert volume.hu.shape == (1, 6, 7)
    assert volume.geometry.spacing_mm == (0.7, 0.8, 2.5)


def test_a_remote_series_reads_the_same(tmp_path):
    folder = write_series(tmp_path / "series")
    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe_file(f"/dicom-test/{file.name}", file.read_bytes())
    remote, local = read_volume("memory://dicom-test"), read_volume(str(folder))
    memory.rm("/dicom-test", recursive=True)
    np.testing.assert_array_equal(remote.hu, local.hu)
    assert (remote.series_uid, remote.geometry) == (local.series_uid, local.geometry)


def refused(folder, capfd):
    messages = []
    for read in (read_geometry, read_volume):
        with pytest.raises(VolumeError) as caught:
            read(str(folder))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    assert capfd.readouterr() == ("", "")
    return messages[0]


def test_a_missing_slice_is_refused(tmp_path, capfd):
    folder = write_series(tmp_path / "series", positions=(-10.0, -7.5, -2.5, 0.0, 2.5))
    assert "its slices 1 and 2 lie 5 mm apart and the others 2.5 mm: slices are missing" in refused(
        folder, capfd
    )


def test_a_double_slice_is_refused(tmp_path, capfd):
    folder = write_series(tmp_path / "series", positions=(-10.0, -7.5, -7.5, -5.0, -2.5))
    assert "two of its slices lie at the same position" in refused(folder, capfd)


def test_two_series_in_a_folder_are_refused(tmp_path, capfd):
    folder = write_series(tmp_path / "series")
    write_slice(folder / "other.dcm", stored()[0], (0, 0, 0), series="1.2.9")
    assert "the folder holds 2 DICOM series (1.2.826.0.1.3680043.8.498.1, 1.2.9)" in refused(folder, capfd)


@pytest.mark.parametrize(
    ("step", "decimals"), [(0.625, 1), (0.7, 1), (1.25, 1), (2.5, 0), (3.3, 0), (0.3125, 2), (5.0, 0)]
)
def test_rounded_positions_are_evenly_spaced(tmp_path, step, decimals):
    positions = [round(-137.5 + index * step, decimals) for index in range(41)]
    geometry = read_geometry(str(write_series(tmp_path / "series", positions)))
    assert geometry.spacing_mm[2] == pytest.approx(step, rel=0.01)
    middle = geometry.index_to_world([0, 0, 20])[2]
    assert middle == pytest.approx(-137.5 + 20 * step, abs=0.6 * 10**-decimals)


@pytest.mark.parametrize("step", [0.625, 1.25, 2.5, 5.0])
@pytest.mark.parametrize("slices", [4, 9, 40])
def test_a_slice_that_is_missing_among_rounded_positions_is_refused(tmp_path, step, slices):
    for missing in {1, slices // 2, slices - 2}:
        positions = [round(-20 + index * step, 1) for index in range(slices) if index != missing]
        with pytest.raises(VolumeError, match="slices are missing or unevenly spaced"):
            read_geometry(str(write_series(tmp_path / f"missing{missing}", positions)))


def test_a_spacing_that_drifts_is_refused(tmp_path):
    steps = [1.0] * 20 + [1.09] * 20  # each within a tenth of the median
    with pytest.raises(VolumeError, match="unevenly spaced"):
        read_geometry(str(write_series(tmp_path / "series", np.cumsum(steps).round(3).tolist())))


def test_a_tilted_gantry_is_a_grid_that_is_not_upright(tmp_path):
    tilt = np.radians(10)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt)))
    geometry = read_geometry(str(write_series(tmp_path / "series", orientation=orientation)))
    assert geometry.spacing_mm[2] == pytest.approx(2.5)
    np.testing.assert_allclose(np.asarray(geometry.direction)[:, 2], (0, 0, 1), atol=1e-6)


FAULTS = {
    "no spacing": ({"PixelSpacing": None}, "states no PixelSpacing"),
    "zero spacing": ({"PixelSpacing": [0, 0]}, "the spacing is 0 0 2.5 mm"),
    "wide spacing": ({"PixelSpacing": [700, 700]}, "that of a CT is 0.05 to 20.0 mm"),
    "no position": ({"ImagePositionPatient": None}, "has no position or orientation"),
    "no orientation": ({"ImageOrientationPatient": None}, "has no position or orientation"),
    "orientation of nothing": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not two perpendicular"),
    "frames": ({"NumberOfFrames": 12}, "multi-frame files are not supported"),
    "frames of another modality": (
        {"NumberOfFrames": 12, "Modality": "RTDOSE"},
        r"\(RTDOSE\) is not one slice",
    ),
    "colours": ({"SamplesPerPixel": 3}, "is not one slice of one channel"),
    "too many pixels": ({"Rows": 65535, "Columns": 65535}, "at most 4096 along an axis"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_series_is_named_with_its_reason(tmp_path, fault):
    elements, reason = FAULTS[fault]
    folder = write_series(tmp_path / "series", **elements)
    for read in (read_geometry, read_volume):
        with pytest.raises(VolumeError, match=reason) as caught:
            read(str(folder))
        assert "\n" not in str(caught.value)


def test_a_number_that_is_none_is_refused_where_it_matters(tmp_path):
    folder = write_series(tmp_path / "series")
    file = folder / "003.dcm"
    file.write_bytes(file.read_bytes().replace(b"-100.5\\20.25", b"-100,5\\20,25"))
    with pytest.raises(VolumeError, match=r"003.dcm: its ImagePositionPatient is '-100,5.*; 3 numbers are"):
        read_volume(str(folder))
    thickness = write_series(tmp_path / "thickness")
    for file in thickness.iterdir():
        file.write_bytes(file.read_bytes().replace(b"DS\x04\x002.5 ", b"DS\x04\x00thin"))
    assert read_geometry(str(thickness)).spacing_mm[2] == 2.5


def test_a_series_of_one_slice_without_thickness_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="its only slice states no SliceThickness"):
        read_volume(str(write_series(tmp_path / "series", (0.0,), SliceThickness=None)))


def test_each_slice_is_rescaled_by_its_own_header(tmp_path):
    folder = write_series(tmp_path / "series")
    write_slice(folder / "003.dcm", stored()[2], (-100.5, 20.25, -5.0), 3, slope=0.5)
    hu = read_volume(str(folder)).hu
    np.testing.assert_array_equal(hu[2], np.rint(stored()[2] * 0.5 - 1024))
    np.testing.assert_array_equal(hu[1], stored()[1].astype(int) - 1024)


def test_only_the_slices_that_are_needed_are_read_whole(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "series")
    expected = read_volume(str(folder)).hu[[3]]
    for file in sorted(folder.iterdir()):
        if file.name != "002.dcm":
            file.write_bytes(file.read_bytes()[:-30])
    np.testing.assert_array_equal(read_slices(str(folder), [3]), expected)
    with pytest.raises(VolumeError, match=r"the voxels of 00\d.dcm cannot be read"):
        read_slices(str(folder), [2])


def test_slices_of_different_size_are_refused(tmp_path, capfd):
    folder = write_series(tmp_path / "series")
    write_slice(folder / "6.dcm", stored()[0][:4], (-100.5, 20.25, 2.5), 6)
    assert "6.dcm has another size, pixel spacing or orientation" in refused(folder, capfd)


def test_a_scout_is_refused(tmp_path, capfd):
    folder = tmp_path / "series"
    folder.mkdir()
    write_slice(folder / "scout.dcm", stored()[0], None)
    assert "scout.dcm has no position or orientation" in refused(folder, capfd)


def test_a_folder_without_dicom_is_refused(tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    assert "the folder holds no DICOM file" in refused(tmp_path, capfd)


def test_a_truncated_file_is_refused_without_talk_on_stderr(tmp_path, capfd):
    folder = write_series(tmp_path / "series")
    file = folder / "003.dcm"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(VolumeError) as caught:
        read_volume(str(folder))
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_of_a_series_that_is_gone_or_denied_proves_nothing(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "series")
    files = [str(file) for file in folder.iterdir()]
    assert read_volume(str(folder), files=files).hu.shape[0] == len(files)
    last = max(folder.iterdir())
    whole = LocalFileSystem.cat_file

    def refuse_the_last(self, path, **kwargs):
        if path == str(last):
            raise PermissionError(13, "Permission denied", path)
        return whole(self, path, **kwargs)

    for read in (read_geometry, read_volume):
        with monkeypatch.context() as patch:
            patch.setattr(LocalFileSystem, "cat_file", refuse_the_last)
            with pytest.raises(AccessError, match=f"{last}: access denied"):
                read(str(folder))
    last.unlink()  # of the others alone, a shorter volume could be made
    assert read_geometry(str(folder)).size[2] == len(files) - 1
    for read in (read_geometry, read_volume):
        with pytest.raises(AccessError, match=f"{last}: gone since it was listed"):
            read(str(folder), files=files)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file or folder") as caught:
        read_volume(str(tmp_path / "gone"))
    assert not isinstance(caught.value, ContentError)  # nothing was read that could prove anything

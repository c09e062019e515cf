"""DICOM series: written with pydicom, read through GDCM, compared with SimpleITK's series reader."""

import fsspec
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from fsspec.implementations.local import LocalFileSystem
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungforge.ct.io.volume import VolumeError, read_geometry, read_slices, read_volume
from lungforge.errors import AccessError, ContentError, InputError

UID = "1.2.826.0.1.3680043.8.498.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stored():
    """Stored values of five slices; Hounsfield units are these times the slope minus 1024."""
    return np.random.default_rng(1).integers(0, 2000, (5, 6, 7)).astype(np.uint16)


def write_slice(path, pixels, position, number=1, *, slope=1.0, orientation=AXIAL, series=UID):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "CT", series, "1.2.3"
    dataset.InstanceNumber, dataset.SliceThickness = number, 2.5
    if position is not None:
        dataset.ImagePositionPatient = list(position)
        dataset.ImageOrientationPatient = list(orientation)
    dataset.PixelSpacing = [0.8, 0.7]  # row distance, then column distance
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, slope
    dataset.PixelData = pixels.tobytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def write_series(folder, positions=(-10.0, -7.5, -5.0, -2.5, 0.0), **options):
    """Files whose names and instance numbers run against their positions."""
    folder.mkdir(exist_ok=True)
    for index, z in enumerate(positions):
        name = folder / f"{len(positions) - index:03d}.dcm"
        write_slice(name, stored()[index], (-100.5, 20.25, z), len(positions) - index, **options)
    return folder


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

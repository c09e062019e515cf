"""Which series the files of a hospital's folders make up, and what the others are."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from lungforge.ct.io.dicom_series import LeftOut, find_dicom_series
from lungforge.ct.io.volume import VolumeError, read_volume
from lungforge.errors import AccessError
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.reading import Entry, list_folder, read_range
from tests.dicom_files import CORONAL, UID, ct_slice, stored, write_object, write_series, write_slice

POSITIONS = (-10.0, -7.5, -5.0, -2.5, 0.0)


def find(*folders):
    """The series, as uid to names of files; and the reason of each other file, by its name."""
    files = [entry for folder in folders for entry in list_folder(str(folder)) if not entry.is_folder]
    series, left_out = find_dicom_series(files)
    assert sorted([uri for one in series for uri in one.files] + [file.uri for file in left_out]) == sorted(
        entry.uri for entry in files
    ), "every file is in a series or left out"
    return (
        {one.series_uid: [uri.rpartition("/")[2] for uri in one.files] for one in series},
        {file.uri.rpartition("/")[2]: file.reason for file in left_out},
    )


NAMES = [f"{index:03d}.dcm" for index in range(1, 6)]


@pytest.fixture
def folder(tmp_path):
    return write_series(tmp_path / "series")


def test_a_folder_of_one_series(folder):
    assert find(folder) == ({UID: NAMES}, {})


@pytest.mark.parametrize("series", ["1.2.9", UID])
def test_a_localizer_is_no_slice_whatever_its_series(folder, series):
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slice(
        folder / "0.dcm", stored()[0], (0, 0, 0), 9, series=series, orientation=CORONAL, ImageType=image_type
    )
    assert find(folder) == ({UID: NAMES}, {"0.dcm": "a localizer"})


@pytest.mark.parametrize(
    ("sop_class", "modality", "reason"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR", "not an image (SR)"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "not an image (RTSTRUCT)"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR", "not an image (PR)"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "DOC", "not an image (DOC)"),
        ("1.2.840.10008.1.3.10", "", "an index of files (DICOMDIR)"),
    ],
)
@pytest.mark.parametrize("series", ["1.2.99", UID])
def test_objects_without_an_image_are_no_slices(folder, sop_class, modality, reason, series):
    write_object(folder / "0", sop_class, modality, series)
    assert find(folder) == ({UID: NAMES}, {"0": reason})


def test_an_image_of_the_screen_is_no_slice(folder):
    screen = "1.2.840.10008.5.1.4.1.1.7"
    write_slice(folder / "0", stored()[0], None, series="1.2.99", SOPClassUID=screen)
    assert find(folder) == ({UID: NAMES}, {"0": "a secondary capture without a position"})


def test_other_files_are_not_dicom(folder):
    contents = {
        "notes.txt": b"nothing", "empty": b"", "Thumbs.db": b"x" * 500, "page.html": b"<html>" * 50,
        "resource": b"\x00\x05\x16\x07" + bytes(300), "noise": bytes(np.random.default_rng(0).bytes(4096)),
        "nearly": b"\x08\x00" + bytes(np.random.default_rng(1).bytes(70000)), "short": b"\x02\x00",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    assert find(folder) == ({UID: NAMES}, dict.fromkeys(sorted(contents), "not a DICOM file"))


def test_series_of_a_folder_are_told_apart(folder):
    for index, z in enumerate(POSITIONS):
        write_slice(folder / f"B{index}", stored()[index], (0, 0, z), index, series="1.2.9")
    assert find(folder) == ({UID: NAMES, "1.2.9": [f"B{index}" for index in range(5)]}, {})


def test_a_series_in_two_folders_is_joined(folder, tmp_path):
    whole = read_volume(str(folder))
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES[:2]:
        shutil.move(folder / name, other / name)
    series, _ = find_dicom_series(list_folder(str(folder)) + list_folder(str(other)))
    assert [len(one.files) for one in series] == [5]
    joined = read_volume(str(folder), files=series[0].files)
    np.testing.assert_array_equal(joined.hu, whole.hu)
    assert joined.geometry == whole.geometry


def test_one_uid_for_two_scans_is_refused_with_both_folders(folder, tmp_path):
    other = tmp_path / "other"
    write_series(other, (2.5, 5.0, 7.5), StudyInstanceUID="1.2.77")
    for file in other.iterdir():
        file.rename(other / f"other{file.name}")
    series, _ = find_dicom_series(list_folder(str(folder)) + list_folder(str(other)))
    with pytest.raises(VolumeError, match="of another study than") as caught:
        read_volume(str(folder), files=series[0].files)
    assert f"its files lie in 2 folders: {other}, {folder}" in str(caught.value)


def test_a_copy_is_left_out(folder, tmp_path):
    shutil.copy(folder / "003.dcm", folder / "003 (1).dcm")
    shutil.copytree(folder, tmp_path / "backup")
    series, left_out = find(folder, tmp_path / "backup")
    assert list(map(len, series.values())) == [5]
    assert left_out["003 (1).dcm"].startswith("the same SOPInstanceUID as ")
    assert set(left_out) == {*NAMES, "003 (1).dcm"}


def test_of_a_slice_and_its_broken_off_copy_the_whole_one_is_used(folder):
    data = (folder / "003.dcm").read_bytes()
    (folder / "003 (1).dcm").write_bytes(data[:-20])
    series, left_out = find(folder)
    assert series == {UID: NAMES}
    assert list(left_out) == ["003 (1).dcm"]


def test_slices_that_share_a_uid_by_mistake_are_all_used(tmp_path):
    folder = write_series(tmp_path / "series", SOPInstanceUID="1.2.3.4")
    assert find(folder) == ({UID: NAMES}, {})


def test_of_reformats_in_the_same_series_the_axial_slices_are_used(folder):
    for index in range(9):
        place = (0, 10.0 * index, 0)
        write_slice(folder / f"R{index}", stored()[0], place, 20 + index, orientation=CORONAL)
    series, left_out = find(folder)
    assert series == {UID: NAMES}
    assert all("orientation than 5 other slices" in reason for reason in left_out.values())
    assert len(left_out) == 9


def test_of_two_grids_at_the_same_heights_the_larger_stack_is_used(folder):
    for index, z in enumerate(POSITIONS[1:]):
        write_slice(folder / f"S{index}", stored()[index], (0, 0, z), 20 + index, PixelSpacing=[0.5, 0.5])
    series, left_out = find(folder)
    assert series == {UID: NAMES}
    assert len(left_out) == 4


def test_half_of_a_scan_on_another_grid_is_not_left_out(folder):
    for index, z in enumerate((2.5, 5.0)):
        write_slice(folder / f"S{index}", stored()[index], (0, 0, z), 20 + index, PixelSpacing=[0.5, 0.5])
    assert find(folder) == ({UID: [*NAMES, "S0", "S1"]}, {})
    with pytest.raises(VolumeError, match="another size, pixel spacing or orientation"):
        read_volume(str(folder))


def test_what_may_be_a_slice_is_told_from_what_is_none(folder):
    (folder / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    write_slice(folder / "nameless", stored()[0], (0, 0, 0), SeriesInstanceUID="")
    _, left_out = find_dicom_series(list_folder(str(folder)))
    assert left_out == [
        LeftOut(f"{folder}/broken", "a damaged DICOM file", may_be_slice=True),
        LeftOut(f"{folder}/nameless", "its SeriesInstanceUID '' is no uid", may_be_slice=True),
    ]


def without_preamble(data):
    return data[132:]


def without_meta(data):
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


@pytest.mark.parametrize("change", [without_preamble, without_meta])
def test_files_without_a_preamble_are_read(folder, change):
    whole = read_volume(str(folder))
    for file in folder.iterdir():
        file.write_bytes(change(file.read_bytes()))
    assert find(folder) == ({UID: NAMES}, {})
    volume = read_volume(str(folder))
    np.testing.assert_array_equal(volume.hu, whole.hu)
    assert volume.geometry == whole.geometry


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_every_transfer_syntax_is_read(folder, syntax):
    hu = np.zeros((5, 8, 8))
    for index, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        dataset = pydicom.dcmread(file)
        dataset.Rows = dataset.Columns = 8
        pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 40 + index
        dataset.PixelData, hu[index] = pixels.tobytes(), pixels.astype(int) - 1024
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        elif syntax == ExplicitVRBigEndian:
            dataset.PixelData = pixels.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            file, dataset, little_endian=syntax.is_little_endian, implicit_vr=syntax.is_implicit_VR
        )
    assert find(folder) == ({UID: NAMES}, {})
    np.testing.assert_array_equal(read_volume(str(folder)).hu, hu)


@pytest.mark.parametrize("deep", [1, 400])
def test_long_values_before_the_wanted_ones_are_read_over(tmp_path, deep):
    """Private values and icons may be longer than what is read at first."""
    folder = tmp_path / "series"
    folder.mkdir()
    dataset = ct_slice(stored()[0], (0, 0, 0))
    block = dataset.private_block(0x0019, "A vendor", create=True)
    for index in range(deep % 200 + 1):
        block.add_new(index, "OB", bytes(600000 if deep == 1 else 3000))
    pydicom.dcmwrite(folder / "1", dataset, enforce_file_format=True)
    assert find(folder) == ({UID: ["1"]}, {})
    assert read_volume(str(folder)).geometry.size == (7, 6, 1)


def test_only_the_heads_of_files_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "series"
    folder.mkdir()
    write_slice(folder / "1", np.zeros((512, 512), np.uint16), (0, 0, 0))
    read = []

    def note(uri, start, stop):
        read.append(stop - start)
        return read_range(uri, start, stop)

    monkeypatch.setattr("lungforge.ct.io.dicom_header.read_range", note)
    assert find(folder) == ({UID: ["1"]}, {})
    assert read == [16384]


def test_a_file_that_is_gone_proves_nothing(folder):
    files = [*list_folder(str(folder)), Entry("gone", f"{folder}/gone", is_folder=False, size=5000)]
    with pytest.raises(AccessError, match=f"{folder}/gone: gone since it was listed"):
        find_dicom_series(files)


def test_a_bucket_gives_the_same_as_a_folder(folder, store_uri):
    for file in folder.iterdir():
        write_bytes_atomic(join_uri(store_uri, file.name), file.read_bytes())
    assert find(store_uri) == ({UID: NAMES}, {})
    volume = read_volume(store_uri)
    np.testing.assert_array_equal(volume.hu, read_volume(str(folder)).hu)


def test_damaged_headers_are_refused_in_one_line_whatever_the_damage(folder, capfd):
    random = np.random.default_rng(7)
    whole = {file: file.read_bytes() for file in folder.iterdir()}
    outcomes = []
    for _ in range(150):
        for file, data in whole.items():
            file.write_bytes(data)
        data = bytearray(whole[folder / "003.dcm"])
        for place in random.integers(128, len(data), random.integers(1, 30)):
            data[place] = random.integers(256)
        cut = int(random.integers(len(data)))
        (folder / "003.dcm").write_bytes(data if random.random() < 0.7 else data[:cut] + data[cut + 5 :])
        series, _ = find_dicom_series(list_folder(str(folder)))
        for one in series:
            try:
                read_volume(str(folder), files=one.files)
                outcomes.append("read")
            except VolumeError as error:
                outcomes.append(str(error))
    assert 1 < outcomes.count("read") < len(outcomes)
    assert not any("\n" in outcome for outcome in outcomes)
    assert capfd.readouterr() == ("", "")

"""Which series a source holds."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from lungforge.ct.io.luna16 import MASK_FOLDER, RejectedSeries, SeriesEntry, list_series
from lungforge.ct.io.volume import read_geometry, read_volume
from lungforge.errors import InputError
from lungforge.storage import write_bytes_atomic

UID = "1.2.826.0.1.3680043.8.498.1"


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 2, 2), np.int16)), str(path))


@pytest.fixture
def source(tmp_path):
    for name in ("subset9/b", "subset0/z", "subset0/a", f"{MASK_FOLDER}/a", f"{MASK_FOLDER}/nowhere"):
        write(tmp_path / f"{name}.mhd")
    (tmp_path / "annotations.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm\n", encoding="utf-8"
    )
    (tmp_path / "candidates_V2.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n", encoding="utf-8")
    return tmp_path


def test_luna_is_sorted_by_subset_and_uid_with_its_masks(source):
    listing = list_series(str(source))
    assert listing.entries == (
        SeriesEntry("a", 0, f"{source}/subset0/a.mhd", f"{source}/{MASK_FOLDER}/a.mhd"),
        SeriesEntry("z", 0, f"{source}/subset0/z.mhd", None),
        SeriesEntry("b", 9, f"{source}/subset9/b.mhd", None),
    )
    assert [entry.listed for entry in listing.entries] == [
        tuple(
            f"{source}/{folder}/a.{ending}"
            for folder in ("subset0", MASK_FOLDER)
            for ending in ("mhd", "raw")
        ),
        (f"{source}/subset0/z.mhd", f"{source}/subset0/z.raw"),
        (f"{source}/subset9/b.mhd", f"{source}/subset9/b.raw"),
    ]
    assert listing.rejected == ()
    assert listing.annotations_uri == f"{source}/annotations.csv"
    assert listing.candidates_uri == f"{source}/candidates_V2.csv"


@pytest.mark.s3
def test_a_bucket_gives_the_same_as_a_folder(source, s3_uri):
    for file in source.rglob("*.*"):
        write_bytes_atomic(f"{s3_uri}/{file.relative_to(source)}", file.read_bytes())
    remote, local = list_series(s3_uri), list_series(f"file://{source}/")
    assert [entry.uri for entry in remote.entries] == [
        entry.uri.replace(str(source), s3_uri) for entry in local.entries
    ]
    assert remote.entries[0].lung_mask_uri == f"{s3_uri}/{MASK_FOLDER}/a.mhd"
    assert remote.annotations_uri == f"{s3_uri}/annotations.csv"
    assert read_volume(remote.entries[0].uri).geometry == read_geometry(local.entries[0].uri)


def test_of_a_uid_in_two_subsets_the_first_is_used_and_the_other_reported(source):
    write(source / "subset3" / "a.mhd")
    listing = list_series(str(source))
    assert [(entry.series_uid, entry.subset) for entry in listing.entries] == [("a", 0), ("z", 0), ("b", 9)]
    (rejected,) = listing.rejected
    assert (rejected.series_uid, rejected.uri) == ("a", f"{source}/subset3/a.mhd")
    assert rejected.reason == f"the same series is there twice; {source}/subset0/a.mhd is used"


def test_plain_folders_have_no_subset(tmp_path):
    write(tmp_path / "b.mhd")
    write(tmp_path / "a.mhd")
    write(tmp_path / "more" / "c.mha")
    listing = list_series(str(tmp_path))
    assert [(entry.series_uid, entry.subset) for entry in listing.entries] == [
        ("a", -1),
        ("b", -1),
        ("c", -1),
    ]
    assert (listing.annotations_uri, listing.candidates_uri) == (None, None)


def test_dicom_folders_are_listed_at_any_depth(tmp_path):
    folder = tmp_path / "LIDC-IDRI-0001" / "study" / "series"
    folder.mkdir(parents=True)
    image = sitk.GetImageFromArray(np.zeros((2, 2), np.int16))
    for tag, value in {"0020|000e": UID, "0020|0032": "0\\0\\0", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(folder / "1.dcm"))
    writer.Execute(image)
    (folder / "max.xml").write_text("<a/>", encoding="utf-8")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "1.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    listing = list_series(str(tmp_path))
    assert listing.entries == (SeriesEntry(UID, -1, str(folder), files=(str(folder / "1.dcm"),)),)
    assert listing.entries[0].listed == (str(folder / "1.dcm"),)
    damaged = RejectedSeries("1.dcm", f"{broken}/1.dcm", f"{broken}/1.dcm: a damaged DICOM file")
    assert listing.rejected == (damaged,)
    assert list_series(str(folder)).entries == listing.entries


def test_a_source_without_series_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no CT series"):
        list_series(str(tmp_path))
    with pytest.raises(InputError, match="there is no such folder"):
        list_series(str(tmp_path / "gone"))


@pytest.mark.real_data
@pytest.mark.skipif("LUNGFORGE_REAL_DATA" not in os.environ, reason="LUNGFORGE_REAL_DATA is not set")
def test_luna16_mini():
    listing = list_series(str(Path(os.environ["LUNGFORGE_REAL_DATA"]) / "luna16_mini"))
    assert len(listing.entries) == 433
    assert {entry.subset for entry in listing.entries} == {0, 1, 2, 3}
    assert all(entry.lung_mask_uri for entry in listing.entries)

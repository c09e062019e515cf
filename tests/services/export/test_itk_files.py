"""Slices as MetaImage files, read back by SimpleITK."""

import errno
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from services.export.itk_files import metaimage_bytes


def read(folder: Path, data: bytes) -> SimpleITK.Image:
    path = folder / "slice.mha"
    path.write_bytes(data)
    return SimpleITK.ReadImage(path)


def test_every_hounsfield_unit_of_16_bits_comes_back(tmp_path: Path) -> None:
    hu = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16).reshape(128, 512)
    image = read(tmp_path, metaimage_bytes(hu, (0.7, 1.25)))
    assert image.GetPixelIDTypeAsString() == "16-bit signed integer"
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), hu)


def test_a_map_stays_uint8_and_the_spacing_is_exact_with_x_first(tmp_path: Path) -> None:
    label = np.arange(12, dtype=np.uint8).reshape(3, 4) % 6
    image = read(tmp_path, metaimage_bytes(label, (1 / 3, 0.1 + 0.2)))
    assert image.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert image.GetSize() == (4, 3)
    assert image.GetSpacing() == (0.1 + 0.2, 1 / 3)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), label)


def test_the_text_is_kept_and_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    label = np.zeros((2, 2), np.uint8)
    text = {"Synthetic": "LungForge 0.1.0, sample 3f, model sha256 00", "Source": "here"}
    data = metaimage_bytes(label, (1.0, 1.0), text)
    image = read(tmp_path, data)
    assert {keyword: image.GetMetaData(keyword) for keyword in text} == text
    assert metaimage_bytes(label, (1.0, 1.0), text) == data


def test_a_file_cut_short_by_a_full_disk_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: whole(path)[:-1])
    with pytest.raises(OSError, match="no room for temporary files in ") as error:
        metaimage_bytes(np.ones((2, 2), np.int16), (1.0, 1.0))
    assert error.value.errno == errno.ENOSPC

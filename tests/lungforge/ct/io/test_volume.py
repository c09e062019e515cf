"""Reading MetaImages: equal to SimpleITK where they are sound, one clear line where they are not."""

import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from fsspec.implementations.local import LocalFileSystem

from lungforge.ct.io.volume import VolumeError, read_geometry, read_slices, read_volume
from lungforge.errors import AccessError, ContentError, InputError

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def voxels(dtype=np.int16):
    return np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(dtype)


def write(path: Path, array, *, compressed=False, direction=OBLIQUE):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-100.5, 20.25, -300.0))
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return image


def state(path: Path, key: str, value: str | None):
    """Let a header state another value, or none; ElementDataFile is its last line, as the format wants."""
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(f"{key} =")
    ]
    if value is not None:
        lines.insert(len(lines) - (key != "ElementDataFile"), f"{key} = {value}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def header(tmp_path):
    path = tmp_path / "1.2.3.mhd"
    write(path, voxels())
    return path


@pytest.mark.parametrize("name", ["1.2.3.mhd", "1.2.3.mha"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16, np.int32, np.float32])
def test_reads_what_simpleitk_reads(tmp_path, name, compressed, dtype):
    image = write(tmp_path / name, voxels(dtype), compressed=compressed)
    volume = read_volume(str(tmp_path / name))
    assert volume.series_uid == "1.2.3"
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, voxels())
    geometry = volume.geometry
    assert geometry.size == image.GetSize()
    assert (geometry.spacing_mm, geometry.origin_mm) == (image.GetSpacing(), image.GetOrigin())
    # Written to the header in decimals.
    np.testing.assert_allclose(np.ravel(geometry.direction), image.GetDirection(), atol=1e-12)
    assert read_geometry(str(tmp_path / name)) == geometry
    np.testing.assert_array_equal(read_slices(str(tmp_path / name), [3, 0, 3]), voxels()[[3, 0, 3]])


def test_reads_big_endian_voxels(header):
    header.with_suffix(".raw").write_bytes(voxels().astype(">i2").tobytes())
    state(header, "BinaryDataByteOrderMSB", "True")
    np.testing.assert_array_equal(read_volume(str(header)).hu, voxels())


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
@pytest.mark.parametrize("word", ["True", "TRUE", "T", "t", "1"])
def test_every_word_for_true_is_understood(header, key, word):
    header.with_suffix(".raw").write_bytes(voxels().astype(">i2").tobytes())
    state(header, "BinaryDataByteOrderMSB", None)
    state(header, key, word)
    np.testing.assert_array_equal(read_volume(str(header)).hu, voxels())
    same_as_simpleitk(header)


def same_as_simpleitk(path):
    image, volume = sitk.ReadImage(str(path)), read_volume(str(path))
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image))
    geometry = volume.geometry
    assert geometry.size == image.GetSize()
    assert (geometry.spacing_mm, geometry.origin_mm) == (image.GetSpacing(), image.GetOrigin())
    np.testing.assert_allclose(np.ravel(geometry.direction), image.GetDirection(), atol=1e-12)
    np.testing.assert_array_equal(read_slices(str(path), [3, 1]), volume.hu[[3, 1]])


HEADERS = {
    "colons": {"ElementSpacing": None, "ElementSpacing: 0.7 0.8 2.5\nComment": "a = b: c"},
    "size for spacing": {"ElementSpacing": None, "ElementSize": "0.7 0.8 2.5"},
    "position": {"Offset": None, "Position": "1 2 3"},
    "origin": {"Offset": None, "Origin": "1 2 3"},
    "rotation": {"TransformMatrix": None, "Rotation": "0 1 0 -1 0 0 0 0 1"},
    "orientation": {"TransformMatrix": None, "Orientation": "0 1 0 -1 0 0 0 0 1"},
    "no matrix": {"TransformMatrix": None},
    "comment": {"Comment": "Größe des Felds: 肺"},
    "units": {"DistanceUnits": "mm"},
    "empty line": {"Comment": "x\n"},
    "carriage returns": {"Comment": "x\r"},
    "twice": {"ElementSpacing": "1 1 1\nElementSpacing = 0.7 0.8 2.5"},
    "beside": {"ElementDataFile": "./1.2.3.raw"},
    "below": {"ElementDataFile": "voxels/1 2.raw"},
    "in Chinese": {"ElementDataFile": "肺部扫描.raw"},
    "a list": {"ElementDataFile": "LIST\ns1.raw\n./s2.raw\ns3.raw\ns4.raw"},
    "a list of slices": {"ElementDataFile": "LIST 2\ns1.raw\ns2.raw\ns3.raw\ns4.raw"},
    "a pattern": {"ElementDataFile": "s%d.raw 1 4 1"},
    "a pattern of every third": {"ElementDataFile": "voxels/the %02d.raw 3 12 3"},
    "a header of the voxels": {"HeaderSize": "7", "ElementDataFile": "headed.raw"},
    "the end of a file": {"HeaderSize": "-1", "ElementDataFile": "headed.raw"},
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_are_rare_but_legal(header, case):
    (header.parent / "voxels").mkdir()
    for name in ("肺部扫描.raw", "voxels/1 2.raw"):
        (header.parent / name).write_bytes(voxels().tobytes())
    for index, plane in enumerate(voxels()):
        (header.parent / f"s{index + 1}.raw").write_bytes(plane.tobytes())
        (header.parent / f"voxels/the {index * 3 + 3:02d}.raw").write_bytes(plane.tobytes())
    (header.parent / "headed.raw").write_bytes(b"7 bytes" + voxels().tobytes())
    for key, value in HEADERS[case].items():
        state(header, key, value)
    same_as_simpleitk(header)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [("MET_LONG", "<i4"), ("MET_ULONG", "<u4"), ("MET_LONG_LONG", "<i8"), ("MET_ULONG_LONG", "<u8")],
)
def test_long_voxels(header, element, dtype):
    header.with_suffix(".raw").write_bytes(voxels().astype(dtype).tobytes())
    state(header, "ElementType", element)
    same_as_simpleitk(header)


def test_long_voxels_that_do_not_fit_are_refused(header):
    big = voxels().astype("<i8")
    big[2, 1, 1] = 2**40
    header.with_suffix(".raw").write_bytes(big.tobytes())
    state(header, "ElementType", "MET_LONG_LONG")
    with pytest.raises(VolumeError, match=r"its values run from 0 to 1.09951e\+12"):
        read_volume(str(header))


def test_a_byte_order_mark_and_a_comment_of_another_encoding_are_read_over(header):
    text = header.read_bytes()
    header.write_bytes(b"\xef\xbb\xbf" + b"Comment = Gr\xf6\xdfe\r\n" + text)
    same_as_simpleitk(header)


def test_a_list_of_compressed_files(header):
    names = []
    for index, plane in enumerate(voxels()):
        names.append(f"s{index}.zraw")
        (header.parent / names[-1]).write_bytes(zlib.compress(plane.tobytes()))
    state(header, "CompressedData", "True")
    state(header, "ElementDataFile", "\n".join(["LIST", *names]))
    same_as_simpleitk(header)
    (header.parent / "s2.zraw").unlink()
    for read in (read_geometry, read_volume):
        with pytest.raises(VolumeError, match=r"its voxel file s2.zraw is missing"):
            read(str(header))
        with pytest.raises(AccessError, match=r"s2.zraw: gone since it was listed"):
            read(str(header), listed=[str(header.parent / "s2.zraw")])


def test_a_list_longer_than_most_headers(header):
    names = [f"{'long' * 50}{index:03d}.raw" for index in range(400)]
    for name in names:
        (header.parent / name).write_bytes(voxels()[0].tobytes())
    state(header, "DimSize", "6 5 400")
    state(header, "ElementDataFile", "\n".join(["LIST", *names]))
    assert header.stat().st_size > 65536
    assert read_volume(str(header)).hu.shape == (400, 5, 6)


def test_a_ratio_of_compression_that_no_image_has_is_refused_before_it_is_unpacked(header, monkeypatch):
    header.with_suffix(".zraw").write_bytes(zlib.compress(bytes(2**26 * 2), 9))
    for key, value in {
        "DimSize": "4096 4096 4",
        "CompressedData": "True",
        "ElementDataFile": "1.2.3.zraw",
    }.items():
        state(header, key, value)
    monkeypatch.setattr(zlib, "decompressobj", None)
    for read in (read_geometry, read_volume):
        with pytest.raises(VolumeError, match=r"134217728 bytes of voxels in \d+ compressed ones: no image"):
            read(str(header))


def test_reads_from_a_remote_store(tmp_path):
    path = tmp_path / "1.2.3.mhd"
    write(path, voxels(), compressed=True)
    memory = fsspec.filesystem("memory")
    for file in tmp_path.iterdir():
        memory.pipe_file(f"/volume-test/{file.name}", file.read_bytes())
    volume = read_volume("memory://volume-test/1.2.3.mhd")
    memory.rm("/volume-test", recursive=True)
    np.testing.assert_array_equal(volume.hu, voxels())
    assert volume.geometry == read_geometry(str(path))


def test_reads_only_the_bytes_of_the_slices(header, monkeypatch):
    whole_file = LocalFileSystem.cat_file

    def no_whole_file(self, path, start=None, end=None, **kwargs):
        is_one_slice = start is not None and end - start == voxels()[0].nbytes
        assert is_one_slice or not path.endswith(".raw"), "the whole voxel file was read"
        return whole_file(self, path, start=start, end=end, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "cat_file", no_whole_file)
    np.testing.assert_array_equal(read_slices(str(header), [1]), voxels()[[1]])
    with pytest.raises(AssertionError, match="the whole voxel file"):
        read_volume(str(header))


def test_a_slice_that_is_not_there_is_refused(header):
    for index in (-1, 4):
        with pytest.raises(VolumeError, match=f"there is no slice {index}; the slices are 0 to 3"):
            read_slices(str(header), [0, index])


HEADER_FAULTS = {
    "4-D": ("NDims", "4", "it has 4 dimensions"),
    "channels": ("ElementNumberOfChannels", "3", "it has 3 channels"),
    "zero spacing": ("ElementSpacing", "0.7 0 2.5", "the spacing is 0.7 0 2.5 mm"),
    "negative spacing": ("ElementSpacing", "0.7 0.8 -2.5", "the spacing is 0.7 0.8 -2.5 mm"),
    "NaN spacing": ("ElementSpacing", "0.7 nan 2.5", "the spacing is 0.7 nan 2.5 mm"),
    "words for numbers": ("ElementSpacing", "0.7 wide 2.5", "which are not numbers"),
    "two spacings": ("ElementSpacing", "0.7 0.8", "has 2 values in ElementSpacing; 3 are needed"),
    "too many slices": ("DimSize", "6 5 400", "states 24000 bytes of voxels but 1.2.3.raw has 240"),
    "too few slices": ("DimSize", "6 5 3", "states 180 bytes of voxels but 1.2.3.raw has 240"),
    "no slices": ("DimSize", "6 5 0", "the size is 6 5 0 voxels"),
    "half a slice": ("DimSize", "6 5 3.5", "DimSize = 6 5 3.5, which must be whole numbers"),
    "NaN slices": ("DimSize", "6 5 nan", "which must be whole numbers"),
    "no spacing": ("ElementSpacing", None, "its header has no ElementSpacing"),
    "centimetres": ("DistanceUnits", "cm", "its DistanceUnits are cm; spacing and origin must be in mm"),
    "metres": ("ElementSpacing", "0.0007 0.0007 0.0025", "that of a CT is 0.05 to 20.0 mm"),
    "nearly no spacing": ("ElementSpacing", "0.7 0.8 1e-300", "that of a CT is 0.05 to 20.0 mm"),
    "kilometres": ("ElementSpacing", "0.7 1e9 2.5", "that of a CT is 0.05 to 20.0 mm"),
    "two origins": ("Position", "1 2 3", "contradicts itself: Offset = -100.5 20.25 -300, Position = 1 2 3"),
    "too wide": ("DimSize", "4097 1 1", "at most 4096 along an axis"),
    "too many voxels": ("DimSize", "4096 4096 4096", "and 1073741824 in all are read"),
    "unknown order": (
        "BinaryDataByteOrderMSB",
        "Big",
        "BinaryDataByteOrderMSB = Big, which is neither True nor",
    ),
    "two orders": ("ElementByteOrderMSB", "True", "BinaryDataByteOrderMSB and ElementByteOrderMSB differ"),
    "unknown compression": ("CompressedData", "zip", "CompressedData = zip, which is neither True nor False"),
    "unknown type": ("ElementType", "MET_STRING", "ElementType MET_STRING is not supported"),
    "type of another size": ("ElementType", "MET_UCHAR", "states 120 bytes of voxels but 1.2.3.raw has 240"),
    "text voxels": ("BinaryData", "False", "written as text"),
    "a list of none": ("ElementDataFile", "LIST", "its ElementDataFile names 0 files; it has 4 slices"),
    "a list of volumes": ("ElementDataFile", "LIST 3", "ElementDataFile = LIST 3 is not supported"),
    "numbered files": ("ElementDataFile", "slice%03d.raw 1 4 1", "its voxel file slice001.raw is missing"),
    "too few numbered": ("ElementDataFile", "s%d.raw 1 3 1", "names 3 files; it has 4 slices"),
    "endless numbers": ("ElementDataFile", "s%d.raw 0 99999999999999 1", "files; it has 4 slices"),
    "numbers without a step": ("ElementDataFile", "s%d.raw 0 3", "its voxel file s%d.raw 0 3 is missing"),
    "hostile pattern": ("ElementDataFile", "s%n%s.raw 0 3 1", "its voxel file s%n%s.raw 0 3 1 is missing"),
    "numbered elsewhere": ("ElementDataFile", "../s%d.raw 0 3 1", "'../s0.raw' is not the name of a file"),
    "Windows path": ("ElementDataFile", "C:\\scans\\1.raw", "is not the name of a file beside the header"),
    "a name too long": ("ElementDataFile", "9" * 256, "is not the name of a file beside the header"),
    "a path through a file": ("ElementDataFile", "1.2.3.raw/x", "its voxel file 1.2.3.raw/x is missing"),
    "a folder": ("ElementDataFile", "voxels", "its voxel file voxels is missing"),
    "a URL": ("ElementDataFile", "s3://bucket/1.raw", "is not the name of a file beside the header"),
    "header of the voxels": ("HeaderSize", "-2", "its HeaderSize = -2 is not supported"),
    "file elsewhere": ("ElementDataFile", "../../etc/passwd", "is not the name of a file beside the header"),
    "absolute file": ("ElementDataFile", "/etc/passwd", "is not the name of a file beside the header"),
    "folder above": ("ElementDataFile", "..", "is not the name of a file beside the header"),
    "missing file": ("ElementDataFile", "gone.raw", "its voxel file gone.raw is missing"),
    "flat matrix": ("TransformMatrix", "1 0 0 1 0 0 0 0 1", "has no inverse"),
}


@pytest.mark.parametrize("fault", HEADER_FAULTS)
def test_a_bad_header_is_named_with_its_reason(header, fault):
    key, value, reason = HEADER_FAULTS[fault]
    (header.parent / "voxels").mkdir()
    state(header, key, value)
    for read in (read_geometry, read_volume, lambda uri: read_slices(uri, [0])):
        with pytest.raises(VolumeError) as caught:
            read(str(header))
        assert reason in str(caught.value)
        assert str(caught.value).startswith(f"{header}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no 'ElementDataFile = ...' line"),
        (b"hello\n", "its line 'hello' is not 'Name = value'"),
        ("NDims = 3\n".encode("utf-16"), "it is UTF-16 text; save it as UTF-8"),
        (b"NDims = 3\n", "it has no 'ElementDataFile = ...' line"),
        (bytes(range(128, 256)) * 9, "it is not text"),
        (b"ElementDataFile = LOCAL\n", "its header has no NDims"),
    ],
)
def test_a_file_that_is_no_header_is_refused(tmp_path, content, reason):
    path = tmp_path / "1.mhd"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=reason):
        read_geometry(str(path))


def test_a_missing_header_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file or folder") as caught:
        read_volume(str(tmp_path / "1.mhd"))
    assert not isinstance(caught.value, ContentError)  # nothing was read that could prove anything


def test_a_truncated_or_missing_voxel_file_is_refused(header):
    raw = header.with_suffix(".raw")
    raw.write_bytes(raw.read_bytes()[:-1])
    for read in (read_geometry, read_volume):
        with pytest.raises(VolumeError, match=r"states 240 bytes of voxels but 1.2.3.raw has 239"):
            read(str(header))
    raw.unlink()
    for read in (read_geometry, read_volume):
        with pytest.raises(VolumeError, match=r"its voxel file 1.2.3.raw is missing"):
            read(str(header))


def test_a_file_that_is_gone_since_it_was_listed_proves_nothing(header):
    raw = header.with_suffix(".raw")
    listed = (str(header), str(raw))
    raw.unlink()
    for gone in (raw, header):
        for read in (read_geometry, read_volume, lambda uri, **options: read_slices(uri, [0], **options)):
            with pytest.raises(AccessError, match=f"{gone}: gone since it was listed"):
                read(str(header), listed=listed)
        header.unlink(missing_ok=True)


def test_a_file_that_may_not_be_read_proves_nothing(header, monkeypatch):
    refused = []

    def refuse(self, path, **kwargs):
        refused.append(path)
        raise PermissionError(13, "Permission denied", path)

    for method in ("info", "cat_file"):
        with monkeypatch.context() as patch:
            patch.setattr(LocalFileSystem, method, refuse)
            for read in (read_geometry, read_volume):
                with pytest.raises(AccessError, match=r"access denied \(Permission denied\); check the perm"):
                    read(str(header))
    assert len(refused) == 4


def test_fewer_bytes_than_the_store_states_prove_nothing(header, monkeypatch):
    whole = LocalFileSystem.cat_file

    def short(self, path, **kwargs):
        data = whole(self, path, **kwargs)
        return data[:-1] if path.endswith(".raw") else data

    monkeypatch.setattr(LocalFileSystem, "cat_file", short)
    with pytest.raises(AccessError, match=r"1.2.3.raw: 239 of 240 bytes arrived"):
        read_volume(str(header))
    with pytest.raises(AccessError, match=r"1.2.3.raw: 59 of 60 bytes arrived"):
        read_slices(str(header), [2])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"\0" * len(data), "damaged"),
        (lambda data: data[: len(data) // 2], "holds only"),
        (lambda data: zlib.compress(zlib.decompress(data)[:-2]), "240 bytes of voxels .* holds only 238"),
        (
            lambda data: zlib.compress(zlib.decompress(data) + b"\0"),
            "240 bytes of voxels .* holds more than 240",
        ),
        (lambda data: zlib.compress(zlib.decompress(data))[:-3], "cut off"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
    ],
)
def test_damaged_compressed_voxels_are_refused(tmp_path, damage, reason):
    path = tmp_path / "1.2.3.mhd"
    write(path, voxels(), compressed=True)
    state(path, "CompressedDataSize", None)
    pixels = path.with_suffix(".zraw")
    pixels.write_bytes(damage(pixels.read_bytes()))
    read_geometry(str(path))  # the header alone is valid
    with pytest.raises(VolumeError, match=reason):
        read_volume(str(path))


def test_a_compressed_file_of_another_size_than_stated_is_refused_by_its_header(tmp_path):
    path = tmp_path / "1.2.3.mhd"
    write(path, voxels(), compressed=True)
    with path.with_suffix(".zraw").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(VolumeError, match="bytes of voxels but"):
        read_geometry(str(path))


def test_values_that_are_no_hounsfield_units_are_refused(tmp_path):
    write(tmp_path / "1.mhd", voxels(np.float32) * np.nan)
    with pytest.raises(VolumeError, match="fit into int16"):
        read_volume(str(tmp_path / "1.mhd"))

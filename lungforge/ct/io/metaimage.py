"""The MetaImage format: a text header and the voxels beside it or behind it.

Format: https://docs.itk.org/en/latest/learn/metaio.html. The header is read here rather than by ITK because
ITK fills what a short file lacks with whatever is in memory, takes missing spacing for 1 mm, follows any path
in the header, crashes on some, and cannot tell whether the voxels are there without reading them all. The
tests compare with ITK what both can read.
"""

import math
import zlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.geometry import (
    IDENTITY,
    Geometry,
    Rows,
    VolumeError,
    as_rows,
    as_triple,
    check_plausible,
    to_int16,
)
from lungforge.ct.io.metaimage_fields import Fields
from lungforge.errors import AccessError, InputError
from lungforge.storage.reading import file_size, read_range

_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # on every machine
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}

_HEADS = (64 * 1024, 4 * 1024 * 1024)
"""Bytes read of a file, until they hold the header: a list of files may be long."""

_MOST_COMPRESSED, _SMALL = 900, 64 * 1024 * 1024
"""The ratio of compression above which voxels that take more than so many bytes are refused: noise compresses
2 to 1, a lung mask 300 to 1, and zeros, as a bomb has them, 1030 to 1."""

_READERS = 16


@dataclass(frozen=True)
class VoxelFile:
    """A file that holds voxels."""

    uri: str
    offset: int
    """Where in it they begin, in bytes."""
    size: int
    """How many bytes they take there."""


@dataclass(frozen=True)
class Header:
    """What a header says, checked against the files that hold the voxels."""

    series_uid: str
    """The name of the header file without its ending."""
    geometry: Geometry
    """Where the voxels lie."""
    dtype: np.dtype
    """Type and byte order of a stored value."""
    element_type: str
    """The same in the words of the header."""
    modality: str
    """CT, MR, ..., or nothing if it is not stated."""
    compressed: bool
    """Whether the voxels are zlib streams."""
    files: tuple[VoxelFile, ...]
    """One file for all voxels, or one a slice."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape [Z, H, W] of the array."""
        x, y, z = self.geometry.size
        return z, y, x

    @property
    def raw_bytes(self) -> int:
        """How many bytes the voxels take without compression."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def lowest(self) -> float:
        """The lowest value that its type can have."""
        return float(np.iinfo(self.dtype).min) if self.dtype.kind in "iu" else -math.inf


def is_name(uri: str) -> bool:
    """Whether a URI names a MetaImage header."""
    return uri.lower().endswith((".mhd", ".mha"))


def read_header(uri: str, listed: Collection[str] = ()) -> Header:
    """Read and check a header.

    Args:
        uri: The ``.mhd`` or ``.mha`` file.
        listed: URIs of files that are known to have been there.

    Raises:
        VolumeError: The header cannot be read, states what is not supported or not plausible, or a voxel file
            is missing or of another size than stated.
        AccessError: A file cannot be read now, or a voxel file is gone since it was listed.
        FileNotFoundError: There is no such header.
    """
    fields = _read_fields(uri)
    _check_supported(fields)
    x, y, z = fields.integers("DimSize", 3)
    geometry = Geometry(
        size=(x, y, z),
        spacing_mm=as_triple(fields.floats(("ElementSpacing", "ElementSize"), 3)),
        origin_mm=as_triple(fields.floats(("Offset", "Position", "Origin"), 3, (0.0, 0.0, 0.0))),
        direction=_direction(fields),
    )
    check_plausible(geometry)
    big_endian = fields.flag(("BinaryDataByteOrderMSB", "ElementByteOrderMSB"), default=False)
    element_type = fields.texts["ElementType"]
    modality = fields.texts.get("Modality", "").upper().removeprefix("MET_MOD_")
    header = Header(
        series_uid=_name(uri).rpartition(".")[0],
        geometry=geometry,
        dtype=np.dtype(_DTYPES[element_type]).newbyteorder(">" if big_endian else "<"),
        element_type=element_type,
        modality="" if modality in {"UNKNOWN", "OTHER"} else modality,
        compressed=fields.flag(("CompressedData",), default=False),
        files=(),
    )
    header = replace(header, files=_find_files(header, fields, uri, listed))
    _check_sizes(header, fields)
    return header


def read_pixels(header: Header) -> NDArray[np.int16]:
    """Read all voxels.

    Returns:
        The values as int16, shape [Z, H, W].

    Raises:
        VolumeError: The compressed data are damaged, or a value does not fit into int16.
        AccessError: A file cannot be read now.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        parts = list(pool.map(lambda file: _read_whole(header, file), header.files))
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    return to_int16(np.frombuffer(data, header.dtype).reshape(header.shape))


def read_raw_slices(header: Header, indices: Sequence[int]) -> NDArray[np.int16]:
    """Read some slices of voxels that are not compressed, and no other bytes.

    Args:
        header: The header, with ``compressed`` false.
        indices: Slice indices, each in 0..Z-1.

    Returns:
        The values as int16, shape [len(indices), H, W].

    Raises:
        VolumeError: A value does not fit into int16.
        AccessError: A file cannot be read now.
    """
    depth, *plane = header.shape
    slice_bytes = header.raw_bytes // depth
    slices = np.empty((len(indices), *plane), np.int16)
    for row, index in enumerate(indices):
        alone = len(header.files) > 1
        file = header.files[index if alone else 0]
        start = file.offset + (0 if alone else index * slice_bytes)
        data = read_range(file.uri, start, start + slice_bytes)
        slices[row] = to_int16(np.frombuffer(data, header.dtype).reshape(plane))
    return slices


def _read_fields(uri: str) -> Fields:
    size = file_size(uri)
    data = b""
    for head in _HEADS:
        data += read_range(uri, len(data), min(head, size))
        fields = Fields.parse(data)
        # A list of file names runs to the end of the file.
        if fields is not None and not (fields.lines_after and len(data) < size):
            return fields
        if len(data) == size:
            break
    raise VolumeError("its header cannot be read: it has no 'ElementDataFile = ...' line")


def _check_supported(fields: Fields) -> None:
    """Refuse what is not a three-dimensional scalar image of binary values, in millimetres."""
    (dimensions,) = fields.integers("NDims", 1)
    if dimensions != 3:
        raise VolumeError(f"it has {dimensions} dimensions; a volume has 3")
    (channels,) = fields.integers("ElementNumberOfChannels", 1, 1)
    if channels != 1:
        raise VolumeError(f"it has {channels} channels; a CT volume has 1")
    element = fields.texts.get("ElementType", "missing")
    if element not in _DTYPES:
        raise VolumeError(f"its ElementType {element} is not supported; those that are: {', '.join(_DTYPES)}")
    if not fields.flag(("BinaryData",), default=True):
        raise VolumeError("its voxels are written as text (BinaryData = False), which is not supported")
    units = fields.texts.get("DistanceUnits", "mm")
    if units not in {"mm", "?"}:
        raise VolumeError(f"its DistanceUnits are {units}; spacing and origin must be in mm")


def _find_files(header: Header, fields: Fields, uri: str, listed: Collection[str]) -> tuple[VoxelFile, ...]:
    """The files of the voxels."""
    folder, slash, _ = uri.rpartition("/")
    names = fields.voxel_files(header.shape[0])
    (skipped,) = fields.integers("HeaderSize", 1, 0)
    if skipped < -1 or (skipped and not names) or (skipped == -1 and header.compressed):
        raise VolumeError(f"its HeaderSize = {skipped} is not supported for these voxels")

    def find(name: str) -> VoxelFile:
        file = f"{folder}{slash}{name}"
        try:
            size = file_size(file)
        except (FileNotFoundError, InputError) as error:  # the latter if a part of its path is a file
            if file in listed:
                raise AccessError(f"{file}: gone since it was listed") from error
            raise VolumeError(f"its voxel file {name} is missing") from error
        # -1: the voxels are the last bytes of the file.
        offset = max(size - header.raw_bytes // len(names), 0) if skipped == -1 else skipped
        return VoxelFile(file, offset, max(size - offset, 0))

    if not names:
        return (VoxelFile(uri, fields.header_bytes, max(file_size(uri) - fields.header_bytes, 0)),)
    with ThreadPoolExecutor(_READERS) as pool:
        return tuple(pool.map(find, names))


def _check_sizes(header: Header, fields: Fields) -> None:
    """Refuse voxel files that cannot hold what the header states."""
    raw_bytes = header.raw_bytes // len(header.files)
    for file in header.files:
        stated = raw_bytes
        if header.compressed:
            (stated,) = fields.integers("CompressedDataSize", 1, file.size)
            if len(header.files) > 1:
                stated = file.size
        if file.size != stated:
            raise VolumeError(
                f"its header states {stated} bytes of voxels but {_name(file.uri)} has {file.size}"
            )
    stored = sum(file.size for file in header.files)
    if header.raw_bytes > max(_SMALL, _MOST_COMPRESSED * stored):
        raise VolumeError(
            f"its header states {header.raw_bytes} bytes of voxels in {stored} compressed ones: "
            f"no image is compressed {header.raw_bytes // max(stored, 1)} to 1"
        )


def _read_whole(header: Header, file: VoxelFile) -> bytes:
    """The voxels of a file, unpacked."""
    data = read_range(file.uri, file.offset, file.offset + file.size)
    return _decompress(data, header.raw_bytes // len(header.files)) if header.compressed else data


def _direction(fields: Fields) -> Rows:
    """The direction matrix; the file holds the direction of each axis in turn, which are its columns."""
    flat = tuple(value for row in IDENTITY for value in row)
    axes = fields.floats(("TransformMatrix", "Rotation", "Orientation"), 9, flat)
    return as_rows(np.reshape(axes, (3, 3)).T)


def _decompress(data: bytes, size: int) -> bytes:
    """The zlib (or gzip) stream, which must hold ``size`` bytes; no more than that is ever unpacked."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        # One byte more than is wanted shows a longer stream without unpacking a bomb.
        raw = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise VolumeError(f"its compressed voxels are damaged ({error})") from error
    if len(raw) != size:
        held = f"more than {size}" if len(raw) > size else f"only {len(raw)}"
        raise VolumeError(f"its header states {size} bytes of voxels but the compressed file holds {held}")
    if not stream.eof:
        raise VolumeError("its compressed voxels are damaged (the stream is cut off)")
    return raw


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]

"""The MetaImage format: a text header and the voxels beside it or behind it.

Format: https://docs.itk.org/en/latest/learn/metaio.html. The header is read here rather than by ITK because
ITK fills what a short file lacks with whatever is in memory, follows any path in the header, and cannot
tell whether the voxels are there without reading them all.
"""

import math
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.geometry import IDENTITY, Geometry, Rows, VolumeError, as_rows, as_triple, to_int16
from lungforge.errors import AccessError
from lungforge.storage.reading import file_size, read_range

_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}

_LONGEST_HEADER = 65536
"""Bytes read from the start of a file: far more than any header has."""


@dataclass(frozen=True)
class Header:
    """What a header says, checked against the file that holds the voxels."""

    series_uid: str
    """The name of the header file without its ending."""
    geometry: Geometry
    """Where the voxels lie."""
    dtype: np.dtype
    """Type and byte order of a stored value."""
    compressed: bool
    """Whether the voxels are a zlib stream."""
    pixel_uri: str
    """The file that holds the voxels."""
    pixel_offset: int
    """Where in that file they begin, in bytes."""
    pixel_bytes: int
    """How many bytes they take there."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape [Z, H, W] of the array."""
        x, y, z = self.geometry.size
        return z, y, x

    @property
    def raw_bytes(self) -> int:
        """How many bytes the voxels take without compression."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_name(uri: str) -> bool:
    """Whether a URI names a MetaImage header."""
    return uri.lower().endswith((".mhd", ".mha"))


def read_header(uri: str, listed: Collection[str] = ()) -> Header:
    """Read and check a header.

    Args:
        uri: The ``.mhd`` or ``.mha`` file.
        listed: URIs of files that are known to have been there.

    Raises:
        VolumeError: The header cannot be read, states what is not supported, or its voxel file is missing
            or of another size than stated.
        AccessError: A file cannot be read now, or the voxel file is gone since it was listed.
        FileNotFoundError: There is no such header.
    """
    fields, header_bytes = _parse(read_range(uri, 0, min(file_size(uri), _LONGEST_HEADER)))
    _check_supported(fields)
    geometry = Geometry(
        size=_integers(fields, "DimSize", 3),
        spacing_mm=as_triple(_floats(fields, ("ElementSpacing", "ElementSize"), 3, (1.0, 1.0, 1.0))),
        origin_mm=as_triple(_floats(fields, ("Offset", "Position", "Origin"), 3, (0.0, 0.0, 0.0))),
        direction=_direction(fields),
    )
    big_endian = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    dtype = np.dtype(_DTYPES[fields["ElementType"]]).newbyteorder(">" if big_endian else "<")
    compressed = _is_true(fields, "CompressedData")
    pixel_uri, offset = _pixel_place(fields, uri, header_bytes)
    try:
        file_bytes = file_size(pixel_uri)
    except FileNotFoundError as error:
        if pixel_uri in listed:
            raise AccessError(f"{pixel_uri}: gone since it was listed") from error
        raise VolumeError(f"its voxel file {_name(pixel_uri)} is missing") from error
    series_uid = _name(uri).rpartition(".")[0]
    header = Header(series_uid, geometry, dtype, compressed, pixel_uri, offset, max(file_bytes - offset, 0))
    stated = header.raw_bytes
    if compressed:
        stated = _integers(fields, "CompressedDataSize", 1, (header.pixel_bytes,))[0]
    if header.pixel_bytes != stated:
        raise VolumeError(
            f"its header states {stated} bytes of voxels but {_name(pixel_uri)} has {header.pixel_bytes}"
        )
    return header


def read_pixels(header: Header) -> NDArray[np.int16]:
    """Read all voxels.

    Returns:
        The values as int16, shape [Z, H, W].

    Raises:
        VolumeError: The compressed data are damaged, or a value does not fit into int16.
        AccessError: The file cannot be read now.
    """
    data = read_range(header.pixel_uri, header.pixel_offset, header.pixel_offset + header.pixel_bytes)
    if header.compressed:
        data = _decompress(data, header.raw_bytes)
    return to_int16(np.frombuffer(data, header.dtype).reshape(header.shape))


def read_raw_slices(header: Header, indices: Sequence[int]) -> NDArray[np.int16]:
    """Read some slices of voxels that are not compressed, and no other bytes of the file.

    Args:
        header: The header, with ``compressed`` false.
        indices: Slice indices, each in 0..Z-1.

    Returns:
        The values as int16, shape [len(indices), H, W].

    Raises:
        VolumeError: A value does not fit into int16.
        AccessError: The file cannot be read now.
    """
    depth, *plane = header.shape
    slice_bytes = header.raw_bytes // depth
    slices = np.empty((len(indices), *plane), np.int16)
    for row, index in enumerate(indices):
        start = header.pixel_offset + index * slice_bytes
        data = read_range(header.pixel_uri, start, start + slice_bytes)
        slices[row] = to_int16(np.frombuffer(data, header.dtype).reshape(plane))
    return slices


def _parse(data: bytes) -> tuple[dict[str, str], int]:
    """The fields of a header, and how many bytes it takes."""
    fields: dict[str, str] = {}
    position = 0
    while "ElementDataFile" not in fields:
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        line = data[position:end].strip()
        try:
            key, separator, value = line.decode("ascii").partition("=")
        except UnicodeDecodeError as error:
            raise VolumeError("its header cannot be read: it is not text") from error
        if position >= len(data) or (line and not separator):
            raise VolumeError("its header cannot be read: it has no 'ElementDataFile = ...' line")
        if line:
            fields[key.strip()] = value.strip()
        position = end + 1
    return fields, position


def _check_supported(fields: dict[str, str]) -> None:
    """Refuse what is not a three-dimensional scalar image of binary values."""
    dimensions = _integers(fields, "NDims", 1)[0]
    if dimensions != 3:
        raise VolumeError(f"it has {dimensions} dimensions; a volume has 3")
    channels = _integers(fields, "ElementNumberOfChannels", 1, (1.0,))[0]
    if channels != 1:
        raise VolumeError(f"it has {channels} channels; a CT volume has 1")
    element = fields.get("ElementType", "missing")
    if element not in _DTYPES:
        raise VolumeError(f"its ElementType {element} is not supported; those that are: {', '.join(_DTYPES)}")
    if not _is_true(fields, "BinaryData", default=True):
        raise VolumeError("its voxels are written as text (BinaryData = False), which is not supported")


def _pixel_place(fields: dict[str, str], uri: str, header_bytes: int) -> tuple[str, int]:
    """The URI of the voxel file and the byte at which the voxels begin."""
    if _integers(fields, "HeaderSize", 1, (0.0,))[0] != 0:
        raise VolumeError("its voxel file has a header too (HeaderSize), which is not supported")
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return uri, header_bytes
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise VolumeError(
            "its voxels are spread over several files (ElementDataFile), which is not supported"
        )
    # A header must not choose which other files of this machine are read.
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise VolumeError(f"its ElementDataFile {name!r} is not the name of a file beside the header")
    folder, slash, _ = uri.rpartition("/")
    return f"{folder}{slash}{name}", 0


def _floats(
    fields: dict[str, str], names: tuple[str, ...], count: int, default: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    """The values of the first of the named fields that is there."""
    text = next((fields[name] for name in names if name in fields), None)
    if text is None:
        if default is None:
            raise VolumeError(f"its header has no {names[0]}")
        return default
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError as error:
        raise VolumeError(f"its header has {names[0]} = {text}, which are not numbers") from error
    if len(values) != count:
        raise VolumeError(f"its header has {len(values)} values in {names[0]}; {count} are needed")
    return values


def _integers(
    fields: dict[str, str], name: str, count: int, default: tuple[float, ...] | None = None
) -> tuple[Any, ...]:
    values = _floats(fields, (name,), count, default)
    if not all(value.is_integer() for value in map(float, values)):
        raise VolumeError(f"its header has {name} = {fields[name]}, which must be whole numbers")
    return tuple(int(value) for value in values)


def _direction(fields: dict[str, str]) -> Rows:
    """The direction matrix; the file holds the direction of each axis in turn, which are its columns."""
    flat = tuple(value for row in IDENTITY for value in row)
    axes = _floats(fields, ("TransformMatrix", "Rotation", "Orientation"), 9, flat)
    return as_rows(np.reshape(axes, (3, 3)).T)


def _is_true(fields: dict[str, str], name: str, *, default: bool = False) -> bool:
    return fields.get(name, str(default)).lower() in {"true", "1"}


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

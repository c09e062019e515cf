"""Writers of phantom files (MetaImage, CSV) to any URI."""

import csv
import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry
from lungforge.storage import write_bytes_atomic

#: Writes a file, given its URI and its content.
Write = Callable[[str, bytes], None]


def write_metaimage(
    uri: str,
    voxels: NDArray[np.generic],
    geometry: Geometry,
    compressed: bool = False,
    write: Write = write_bytes_atomic,
) -> None:
    """Write a MetaImage: a header, and before it the voxels beside it in a ``.raw`` or ``.zraw`` file.

    Args:
        uri: URI of the header, ending in ``.mhd``; a local path or any URI that fsspec opens.
        voxels: int16 or uint8, shape [Z, H, W].
        geometry: Geometry of the volume.
        compressed: Whether to compress the voxels (zlib).
        write: Writes the files.
    """
    pixels = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<")).tobytes()
    name = uri.rpartition("/")[2].removesuffix(".mhd") + (".zraw" if compressed else ".raw")
    if compressed:
        pixels = zlib.compress(pixels, 1)
    header = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {compressed}",
        *([f"CompressedDataSize = {len(pixels)}"] if compressed else []),
        f"TransformMatrix = {_words(np.transpose(geometry.direction).ravel())}",
        f"Offset = {_words(geometry.origin_mm)}",
        "CenterOfRotation = 0 0 0",
        "AnatomicalOrientation = RAI",
        f"ElementSpacing = {_words(geometry.spacing_mm)}",
        f"DimSize = {_words(geometry.size)}",
        f"ElementType = {'MET_UCHAR' if voxels.dtype.itemsize == 1 else 'MET_SHORT'}",
        f"ElementDataFile = {name}",
    ]
    write(uri.rpartition("/")[0] + "/" + name, pixels)
    write(uri, ("\n".join(header) + "\n").encode())


def write_csv(
    uri: str, names: tuple[str, ...], rows: Sequence[tuple[object, ...]], write: Write = write_bytes_atomic
) -> None:
    """Write a table with a header, numbers in full precision.

    Args:
        uri: URI of the file; a local path or any URI that fsspec opens.
        names: Column names.
        rows: Rows of values.
        write: Writes the file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    write(uri, text.getvalue().encode())


def _words(values: object) -> str:
    return " ".join(f"{value:.17g}" for value in np.asarray(values).tolist())

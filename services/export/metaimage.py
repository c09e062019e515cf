"""Slices as MetaImage files for other programs: values and spacing without loss."""

import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray


def metaimage_bytes(
    values: NDArray[np.int16] | NDArray[np.uint8],
    spacing_mm: tuple[float, float],
    text: Mapping[str, str] | None = None,
) -> bytes:
    """A MetaImage file (``.mha``) of two dimensions, not compressed.

    Args:
        values: HU or classes, shape [H, W].
        spacing_mm: Of rows and of columns, as in the column ``spacing_mm``; the file has x first.
        text: Keyword to text, kept in the header: what SimpleITK calls the metadata. ASCII in one line, the
            keyword without spaces.

    Returns:
        The file's bytes; the same for the same arguments.

    Raises:
        OSError: There is no room for it in the folder of temporary files.
    """
    image = SimpleITK.GetImageFromArray(values)
    row_mm, column_mm = spacing_mm
    image.SetSpacing((column_mm, row_mm))
    for keyword, value in (text or {}).items():
        assert " " not in keyword, keyword
        assert value.isascii(), value
        assert value.isprintable(), value
        image.SetMetaData(keyword, value)
    # SimpleITK writes to a path only, and does not look whether all of it went there.
    with tempfile.TemporaryDirectory(prefix="lungforge-") as folder:
        path = Path(folder, "slice.mha")
        try:
            SimpleITK.WriteImage(image, path, useCompression=False)
            data = path.read_bytes()
        except RuntimeError as error:
            raise OSError(errno.EIO, f"SimpleITK cannot write to {tempfile.gettempdir()}") from error
    if not data.endswith(values.tobytes()):
        raise OSError(errno.ENOSPC, f"no room for temporary files in {tempfile.gettempdir()}")
    return data

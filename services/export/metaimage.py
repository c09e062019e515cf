"""Encoding of slices as MetaImage files: values and spacing without loss."""

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
    """Encode a two-dimensional, uncompressed MetaImage file (``.mha``).

    Args:
        values: HU or classes, shape [H, W].
        spacing_mm: Spacing (row, column), as in the column ``spacing_mm``; the file stores x first.
        text: Keyword to text of the header (SimpleITK's metadata). One line of ASCII; keywords without
            spaces.

    Returns:
        The bytes of the file; the same for the same arguments.

    Raises:
        OSError: The folder of temporary files is full.
    """
    image = SimpleITK.GetImageFromArray(values)
    row_mm, column_mm = spacing_mm
    image.SetSpacing((column_mm, row_mm))
    for keyword, value in (text or {}).items():
        assert " " not in keyword, keyword
        assert value.isascii(), value
        assert value.isprintable(), value
        image.SetMetaData(keyword, value)
    # SimpleITK writes to a path only, and does not check that everything was written.
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

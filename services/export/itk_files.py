"""Encoding of slices as MetaImage and NIfTI files, by SimpleITK: values and spacing without loss."""

import errno
import gzip
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

Pixels = NDArray[np.int16] | NDArray[np.uint8]

#: Characters that the field ``descrip`` of a NIfTI header holds.
_NOTE = 79


def metaimage_bytes(
    values: Pixels, spacing_mm: tuple[float, float], text: Mapping[str, str] | None = None
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
    image.SetSpacing((spacing_mm[1], spacing_mm[0]))
    for keyword, value in (text or {}).items():
        assert " " not in keyword, keyword
        assert value.isascii(), value
        assert value.isprintable(), value
        image.SetMetaData(keyword, value)
    return _written(image, values, "slice.mha")


def nifti_bytes(
    values: Pixels, spacing_mm: tuple[float, float], *, z_mm: float | None, note: str = ""
) -> bytes:
    """Encode a compressed NIfTI file (``.nii.gz``) of an upright slice.

    Pixel (x, y) lies at (x · column spacing, y · row spacing, z_mm) in the DICOM system LPS, and so at
    (-x · column spacing, -y · row spacing, z_mm) in NIfTI's RAS: the affine is that.

    Args:
        values: HU or classes, shape [H, W]; columns run to the patient's left, rows to the back.
        spacing_mm: Spacing (row, column).
        z_mm: Height of the slice; the file then has three dimensions, the third of one slice of 1 mm. None
            for a file of two dimensions.
        note: For the field ``descrip`` of the header; cut after 79 characters.

    Returns:
        The bytes of the file; the same for the same arguments.

    Raises:
        OSError: The folder of temporary files is full.
    """
    if z_mm is None:
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing((spacing_mm[1], spacing_mm[0]))
    else:
        image = SimpleITK.GetImageFromArray(values[None])
        image.SetSpacing((spacing_mm[1], spacing_mm[0], 1.0))
        image.SetOrigin((0.0, 0.0, z_mm))
    if note:
        assert note.isascii(), note
        image.SetMetaData("ITK_FileNotes", note[:_NOTE])
    # Compressed here, as gzip's header would otherwise hold the time.
    return gzip.compress(_written(image, values, "slice.nii"), mtime=0)


def _written(image: SimpleITK.Image, values: Pixels, name: str) -> bytes:
    """Write an image and read the file: SimpleITK writes to a path only, and does not check that it could."""
    with tempfile.TemporaryDirectory(prefix="lungforge-") as folder:
        path = Path(folder, name)
        try:
            SimpleITK.WriteImage(image, path, useCompression=False)
            data = path.read_bytes()
        except RuntimeError as error:
            raise OSError(errno.EIO, f"SimpleITK cannot write to {tempfile.gettempdir()}") from error
    if not data.endswith(values.tobytes()):
        raise OSError(errno.ENOSPC, f"no room for temporary files in {tempfile.gettempdir()}")
    return data

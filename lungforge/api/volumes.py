"""CT volumes, and their slices with maps, in this process."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.io import volume
from lungforge.ct.io.axial_ct import check_values, plane_of
from lungforge.ct.io.volume import Volume
from lungforge.ct.nodules import Annotation, nodule_rows, nodules_in_slice, sphere_nodules
from lungforge.ct.resize import PixelMap, resize_slice
from lungforge.ct.segmentation.anatomy import anatomy_from_luna, derive_anatomy
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.storage.files import absolute_uri


def read_volume(path: str) -> Volume:
    """Read a CT volume: MetaImage, or a folder with the DICOM files of one series.

    Args:
        path: The ``.mhd`` or ``.mha`` file, or the folder; a local path or a URI (``s3://...``).

    Returns:
        A volume with ``series_uid``; ``hu``, int16 [Z, H, W] (slice, row, column) in Hounsfield units; and
        ``geometry`` with ``size``, ``spacing_mm`` and ``origin_mm`` along x (column), y (row) and z (slice),
        and ``direction``, the matrix whose columns are the directions of these axes in the patient (LPS: x to
        the left, y to the back, z to the head).

    Raises:
        ContentError: The volume is damaged, or of a kind that is not read.
        InputError: There is no such file or folder.
        AccessError: It cannot be read now.

    Example:
        >>> scan = lungforge.read_volume("scan.mhd")
        >>> scan.hu.shape, scan.geometry.size
        ((40, 128, 128), (128, 128, 40))
    """
    return volume.read_volume(absolute_uri(path))


def slice_volume(
    scan: Volume,
    indices: Sequence[int] | None = None,
    *,
    nodules: Iterable[tuple[float, float, float, float]] = (),
    size: int | None = 256,
    spacing_mm: float | None = None,
    lung_mask: NDArray[np.integer] | None = None,
) -> list[SliceRow]:
    """Slices of a volume with their semantic maps: what `lungforge preprocess` makes of it.

    Args:
        scan: The volume.
        indices: Which slices, from 0; if not given, those through the centre of each nodule.
        nodules: x, y, z of each nodule's centre in the patient, and its diameter, all in mm (the columns of
            LUNA16's annotations.csv).
        size: Rows and columns of the slices, in px; None keeps those of the scan.
        spacing_mm: Resample to this pixel spacing, then crop or pad to ``size``; None keeps the field of
            view.
        lung_mask: Values of a LUNA16 lung mask, [Z, H, W]; lungs are segmented in the image if not given.

    Returns:
        The slices, in the order of ``indices``: ``image`` in HU, ``label``, ``nodules`` and so on.

    Raises:
        ContentError: It is no axial CT of a chest, or a lung mask of another shape.
        InputError: There is no slice to take, or not the one that was asked for; a size is out of range.

    Example:
        >>> scan = lungforge.read_volume("scan.mhd")
        >>> (middle,) = lungforge.slice_volume(scan, [len(scan.hu) // 2], size=64)
        >>> middle.image.shape, middle.label.dtype
        ((64, 64), dtype('uint8'))
    """
    geometry = scan.geometry
    if plane_of(geometry) != "axial":
        raise InputError(f"{scan.series_uid}: its slices are {plane_of(geometry)}; give an axial series")
    annotations = [Annotation(scan.series_uid, *nodule) for nodule in nodules]
    spheres, outside = sphere_nodules(annotations, geometry)
    if outside:
        raise InputError(
            f"{scan.series_uid}: {outside[0]}; give centres in mm, in the patient's coordinates, or leave "
            "that one out"
        )
    taken = indices
    if taken is None:
        taken = sorted({each.centre_slice for each in spheres if each.centre_slice is not None})
        if not taken:
            raise InputError("no slice is chosen: give indices, or nodules whose centres to go through")
    wrong = [index for index in taken if not 0 <= index < len(scan.hu)]
    if wrong:
        raise InputError(f"there is no slice {wrong[0]}; the slices are 0 to {len(scan.hu) - 1}")
    check_values(scan.series_uid, scan.hu)
    if lung_mask is None:
        anatomy = derive_anatomy(scan.hu, geometry, taken)
    else:
        if lung_mask.shape != scan.hu.shape:
            raise InputError(f"the lung mask has the shape {lung_mask.shape} and the volume {scan.hu.shape}")
        anatomy = anatomy_from_luna(lung_mask[list(taken)], scan.hu[list(taken)])
    columns, rows, _ = geometry.size
    spacing = (geometry.spacing_mm[1], geometry.spacing_mm[0])
    pixel_map = PixelMap.fit((rows, columns), spacing, size=size, spacing_mm=spacing_mm)
    made = []
    for index, classes in zip(taken, anatomy, strict=True):
        hu = scan.hu[index]
        shown = nodules_in_slice(spheres, index, hu, geometry)
        image, label, kept = resize_slice(hu, classes, shown, pixel_map)
        made.append(
            SliceRow(
                series_uid=scan.series_uid,
                subset=-1,
                slice_index=index,
                spacing_mm=pixel_map.spacing_mm,
                image=image,
                label=label,
                nodules=tuple(nodule_rows(kept, pixel_map.shape)),
            )
        )
    return made

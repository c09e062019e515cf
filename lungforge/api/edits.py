"""Edits of the nodules of a slice or of a map of one's own."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lungforge.ct import edits
from lungforge.ct.classes import COUNT, NODULE
from lungforge.ct.edits import EDITS, EditedMap, EditName, edits_for
from lungforge.ct.edits.geometry import EIGHT_NEIGHBOURS
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.models.identity import image_identity
from lungforge.randomness import numpy_generator

if TYPE_CHECKING:
    from lungforge.api.slices import SliceItem

#: What ``edit_map`` inserts where it is not told otherwise: from the smallest nodule that LUNA16 lists,
#: 3 mm, to the 30 mm from which on a lesion is called a mass.
DIAMETERS_MM = tuple(float(diameter) for diameter in range(3, 31))


@dataclass(frozen=True)
class EditedSlice(SliceRow):
    """A slice whose map was edited: ``label`` and ``nodules`` are as after the edit, ``image`` as before.

    Attributes:
        edit: What was done.
        changed: Pixels whose class has changed, bool [H, W].
    """

    edit: EditName
    changed: NDArray[np.bool_]


@overload
def edit_map(
    slice_or_map: "SliceRow | SliceItem",
    edit: EditName,
    *,
    seed: int = ...,
    diameters_mm: ArrayLike | None = ...,
) -> EditedSlice: ...


@overload
def edit_map(
    slice_or_map: NDArray[np.uint8],
    edit: EditName,
    *,
    seed: int = ...,
    diameters_mm: ArrayLike | None = ...,
    spacing_mm: tuple[float, float],
    nodules: Sequence[Mapping[str, float]] | None = ...,
) -> EditedMap: ...


def edit_map(
    slice_or_map: "SliceRow | SliceItem | NDArray[np.uint8]",
    edit: EditName,
    *,
    seed: int = 0,
    diameters_mm: ArrayLike | None = None,
    spacing_mm: tuple[float, float] | None = None,
    nodules: Sequence[Mapping[str, float]] | None = None,
) -> EditedSlice | EditedMap:
    """Move, resize, remove or insert a nodule: a map that a scan could have, with its list of nodules.

    The edit of a slice is the one that `lungforge sample --edits` makes for the first image of the slice with
    the same seed (and the diameters of the same slices, where a nodule is inserted).

    Args:
        slice_or_map: A slice: ``open_slices(uri).row(0)``, or an item; or a map, uint8 [H, W] of classes 0-5.
        edit: ``move`` or ``resize`` one nodule, ``remove`` all of them, ``insert`` one into a map without, or
            ``none``.
        seed: Decides which nodule, where to, how large.
        diameters_mm: Diameters that ``insert`` chooses among; 3 to 30 mm if not given. One value gives a
            nodule of that size, where it fits.
        spacing_mm: Of a map: distance between its pixel centres (row, column). A slice has its own.
        nodules: Of a map: dicts of x, y, diameter_px and diameter_mm; if not given, each connected nodule of
            the map is one, with the diameter of the disc of its area.

    Returns:
        Of a slice an ``EditedSlice``, of a map an ``EditedMap`` (``label``, ``nodules``, ``edit``,
        ``changed``).

    Raises:
        InputError: The edit does not fit the map or has no room in it; or an argument is wrong.

    Example:
        >>> row = lungforge.open_slices("lungforge://maps-64", subsets=3).row(0)
        >>> healthy = lungforge.edit_map(row, "remove")
        >>> bool((healthy.label == 5).any()), healthy.nodules
        (False, ())
    """
    if edit not in EDITS:
        raise InputError(f"edit is {edit!r}; choose one of {', '.join(EDITS)}")
    sizes = np.atleast_1d(np.asarray(DIAMETERS_MM if diameters_mm is None else diameters_mm, np.float64))
    if isinstance(slice_or_map, np.ndarray):
        if spacing_mm is None:
            raise InputError("a map needs spacing_mm: the distance of its pixels in mm (row, column)")
        label = require_map(slice_or_map)
        listed = nodules_of(label, spacing_mm) if nodules is None else tuple(map(dict, nodules))
        generator = numpy_generator(*image_identity(seed, map_name(label), 0, 0, edit), "edit")
        return _edited(label, listed, edit, spacing_mm, generator, sizes)
    if spacing_mm is not None or nodules is not None:
        raise InputError("spacing_mm and nodules are for maps; a slice has its own")
    row = as_row(slice_or_map)
    generator = numpy_generator(*image_identity(seed, row.series_uid, row.slice_index, 0, edit), "edit")
    edited = _edited(row.label, row.nodules, edit, row.spacing_mm, generator, sizes)
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(SliceRow)}
    fields |= {"label": edited.label, "nodules": edited.nodules}
    return EditedSlice(**fields, edit=edited.edit, changed=edited.changed)


def as_row(given: "SliceRow | SliceItem") -> SliceRow:
    """A slice in NumPy arrays, of an item of ``open_slices`` or as it is.

    Raises:
        InputError: It is neither, a batch, or not in HU.
    """
    if isinstance(given, SliceRow):
        return given
    if not isinstance(given, Mapping) or not {"label", "series_uid", "nodules"} <= given.keys():
        raise InputError(
            f"a {type(given).__name__} is no slice; give a row or an item of lungforge.open_slices"
        )
    item: Any = given
    if item["label"].ndim != 3:
        raise InputError("this is a batch of a DataLoader; give single items, or its maps: batch['label']")
    image = item["image"][0].numpy()
    hu = image.astype(np.int16)
    if not np.array_equal(image, hu):
        raise InputError(
            "the image of this item is not in HU any more, as transforms changed it; give a row: "
            "open_slices(...).row(0)"
        )
    names = ("x", "y", "diameter_px", "diameter_mm")
    row, column = item["spacing_mm"].tolist()
    return SliceRow(
        series_uid=item["series_uid"],
        subset=int(item["subset"]),
        slice_index=int(item["slice_index"]),
        spacing_mm=(row, column),
        image=hu,
        label=item["label"][0].numpy(),
        nodules=tuple(
            dict(zip(names, values, strict=True))
            for values in item["nodules"][: int(item["nodule_count"])].tolist()
        ),
    )


def require_map(label: NDArray[Any]) -> NDArray[np.uint8]:
    """The map as uint8.

    Raises:
        InputError: It is no map [H, W] of classes 0-5.
    """
    if label.ndim != 2 or not label.size:
        raise InputError(f"the map has the shape {label.shape}; give one [height, width]")
    if label.dtype.kind not in "iub" or label.min() < 0 or label.max() >= COUNT:
        raise InputError(
            f"the map has values from {label.min()} to {label.max()} ({label.dtype}); give whole numbers "
            f"from 0 to {COUNT - 1}: 0 background, 1 body, 2 left lung, 3 right lung, 4 trachea, 5 nodule"
        )
    return label.astype(np.uint8)


def nodules_of(label: NDArray[np.uint8], spacing_mm: tuple[float, float]) -> tuple[dict[str, float], ...]:
    """The connected nodules of a map: centre of mass, and diameter of the disc of equal area.

    Args:
        label: Classes 0-5, [H, W].
        spacing_mm: Distance between pixel centres (row, column).
    """
    components, count = ndimage.label(label == NODULE, EIGHT_NEIGHBOURS)
    nodules = []
    for component in range(1, count + 1):
        rows, columns = np.nonzero(components == component)
        diameter_px = float(np.sqrt(4 * len(rows) / np.pi))
        pixel_mm = float(np.sqrt(spacing_mm[0] * spacing_mm[1]))
        nodules.append(
            {
                "x": float(columns.mean()),
                "y": float(rows.mean()),
                "diameter_px": diameter_px,
                "diameter_mm": diameter_px * pixel_mm,
            }
        )
    return tuple(nodules)


def map_name(label: NDArray[np.uint8]) -> str:
    """A name for a map that belongs to no scan: the same for the same map, wherever it comes from."""
    shape = "x".join(map(str, label.shape))
    return f"map {shape} {hashlib.sha256(label.tobytes()).hexdigest()[:20]}"


def _edited(
    label: NDArray[np.uint8],
    nodules: Sequence[Mapping[str, float]],
    edit: EditName,
    spacing_mm: tuple[float, float],
    generator: np.random.Generator,
    diameters_mm: NDArray[np.float64],
) -> EditedMap:
    edited = edits.edit_map(
        edit, label, nodules, spacing_mm=spacing_mm, generator=generator, diameters_mm=diameters_mm
    )
    if edited is None:
        possible = edits_for(bool(nodules))
        if edit not in possible:
            shown = f"{len(nodules)} nodules" if nodules else "no nodule"
            raise InputError(f"{edit} does not fit a map with {shown}; choose one of {', '.join(possible)}")
        raise InputError(f"{edit} has no room in this map; take another slice, seed or edit")
    return edited

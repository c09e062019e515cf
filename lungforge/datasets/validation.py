"""What must hold of the values in each column, once the types of the columns are right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.errors import InputError

# For columns of plain values: which of them are good, and the rule in words.
_RULES: dict[str, tuple[Callable[[NDArray[Any]], NDArray[np.bool_]], str]] = {
    "series_uid": (lambda words: words != "", "a word"),
    "source_series_uid": (lambda words: words != "", "a word"),
    "sample_id": (lambda words: words != "", "a word"),
    "sampler": (lambda words: words != "", "a word"),
    "subset": (lambda folds: folds >= -1, "a fold from 0, or -1 for unknown"),
    "slice_index": (lambda indices: indices >= 0, "0 or more"),
    "source_top": (lambda rows: rows >= 0, "0 or more"),
    "source_left": (lambda columns: columns >= 0, "0 or more"),
    "source_slice_index": (lambda indices: indices >= 0, "0 or more"),
    "replicate": (lambda indices: indices >= 0, "0 or more"),
    "hu_retries": (lambda counts: counts >= 0, "0 or more"),
    "steps": (lambda counts: counts >= 1, "1 or more"),
    "guidance": (np.isfinite, "finite"),
    "z_mm": (np.isfinite, "finite"),
    "x": (np.isfinite, "finite"),
    "y": (np.isfinite, "finite"),
    "label": (lambda labels: (labels == 0) | (labels == 1), "0 or 1"),  # of a crop; a map is a tensor
}


def validate_values(table: pa.Table, shape: tuple[int, int]) -> None:
    """Check every value.

    Args:
        table: All columns of a kind, or some.
        shape: Height and width of the images, in px.

    Raises:
        InputError: Names the column, the first bad row and what is wrong with it.
    """
    for name in table.column_names:
        column = table.column(name)
        _require_no_nulls(name, column)
        if isinstance(column.type, pa.FixedShapeTensorType):
            if name == "label":
                highest = tensor_values(column).max(axis=(1, 2), initial=0)
                _require(highest < classes.COUNT, name, highest, f"a class id below {classes.COUNT}")
        elif name == "spacing_mm":
            spacing = pc.list_flatten(column).to_numpy().reshape(-1, 2)
            good = np.isfinite(spacing) & (spacing > 0)
            _require(good.all(axis=1), name, spacing, "positive, in mm")
        elif name == "nodules":
            _require_nodules_inside(column, shape)
        elif name == "model_sha256":
            good = pc.match_substring_regex(column, "^[0-9a-f]{64}$").to_numpy()
            _require(good, name, column.to_numpy(), "a sha256 in hexadecimal")
        elif name in _RULES:
            is_good, rule = _RULES[name]
            values = column.to_numpy()
            _require(is_good(values), name, values, rule)


def tensor_values(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """The values [N, H, W] of a tensor column; a view without a copy when the column is one chunk."""
    if isinstance(column, pa.Array):
        return column.to_numpy_ndarray()
    if column.num_chunks == 1:
        return column.chunk(0).to_numpy_ndarray()
    if column.num_chunks == 0:
        return np.empty((0, *column.type.shape), column.type.value_type.to_pandas_dtype())
    return np.concatenate([chunk.to_numpy_ndarray() for chunk in column.chunks])


def _require(
    good: NDArray[np.bool_],
    name: str,
    values: NDArray[Any],
    rule: str,
    rows: NDArray[np.integer] | None = None,
) -> None:
    """Raise for the first value that is not good; ``rows``: the row of each, where it is not its index."""
    if not good.all():
        first = int(np.argmin(good))
        row = first if rows is None else rows[first]
        shown = str(values[first]) or "empty"
        raise InputError(f"{name} of row {row}: {shown}, but it must be {rule}")


def _require_no_nulls(name: str, column: pa.ChunkedArray) -> None:
    """No null at any depth: that a field is not nullable, Arrow states but does not check."""
    for chunk in column.chunks:
        pending: list[pa.Array] = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk]
        while pending:
            array = pending.pop()
            if array.null_count:
                raise InputError(f"{name}: {array.null_count} missing values (null)")
            if pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
                pending.append(array.flatten())
            elif pa.types.is_struct(array.type):
                pending.extend(array.flatten())


def _require_nodules_inside(column: pa.ChunkedArray, shape: tuple[int, int]) -> None:
    rows = pc.list_parent_indices(column).to_numpy()
    nodules = pc.list_flatten(column)
    for key, size in (("x", shape[1]), ("y", shape[0])):
        values = pc.struct_field(nodules, key).to_numpy()
        inside = (values >= -0.5) & (values <= size - 0.5)
        _require(inside, f"nodules.{key}", values, f"inside the image, -0.5 to {size - 0.5} px", rows)
    for key in ("diameter_px", "diameter_mm"):
        values = pc.struct_field(nodules, key).to_numpy()
        _require(np.isfinite(values) & (values > 0), f"nodules.{key}", values, "positive", rows)

"""The rows of each kind of dataset: their columns, and what must hold of their values.

Coordinates are in pixels of the row's image: x = column, y = row, the centre of the first pixel at 0.
"""

import enum
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lungforge.datasets.validation import validate_values
from lungforge.errors import InputError


class Kind(enum.StrEnum):
    """What a dataset holds."""

    SLICES = "slices"
    """CT slices with their maps, made by ``preprocess``."""
    CROPS = "crops"
    """Small images around nodule candidates, made by ``preprocess --crops``."""
    SAMPLES = "samples"
    """Synthetic slices with the maps that they were generated from, made by ``sample``."""
    MODEL = "model"
    """Weights and their configuration, made by ``train``; files, no rows."""
    REPORT = "report"
    """The results of ``evaluate``; files, no rows."""


#: The command that makes a dataset of each kind.
MADE_BY = {
    Kind.SLICES: "lungforge preprocess",
    Kind.CROPS: "lungforge preprocess --crops",
    Kind.SAMPLES: "lungforge sample",
    Kind.MODEL: "lungforge train",
    Kind.REPORT: "lungforge evaluate",
}

_NODULE = pa.struct(
    [pa.field(name, pa.float64(), nullable=False) for name in ("x", "y", "diameter_px", "diameter_mm")]
)
_NODULES = pa.list_(pa.field("element", _NODULE, nullable=False))
_SPACING = pa.list_(pa.field("element", pa.float64(), nullable=False), 2)

# A tensor column stands here by the alias of its value type: its shape is that of the dataset's images.
_COLUMNS: dict[Kind, dict[str, Any]] = {
    Kind.SLICES: {
        "series_uid": pa.string(),
        "subset": pa.int8(),  # the fold of LUNA16; -1: unknown
        "slice_index": pa.int32(),
        "z_mm": pa.float64(),
        "spacing_mm": _SPACING,  # [row, column] of this image
        "image": "int16",  # HU
        "label": "uint8",
        "nodules": _NODULES,
    },
    Kind.CROPS: {
        "series_uid": pa.string(),
        "subset": pa.int8(),
        "slice_index": pa.int32(),
        "x": pa.float64(),
        "y": pa.float64(),
        "label": pa.int8(),  # 1: a nodule, 0: a candidate that is none
        "image": "int16",
    },
    Kind.SAMPLES: {
        "sample_id": pa.string(),
        "source_series_uid": pa.string(),
        "source_slice_index": pa.int32(),
        "source_top": pa.int32(),  # where the first pixel lies in the source slice: 0 and 0 unless a patch
        "source_left": pa.int32(),
        "subset": pa.int8(),
        "replicate": pa.int32(),
        "seed": pa.int64(),
        "edit": pa.string(),  # of the map
        "inpainted": pa.bool_(),  # whether the pixels away from the edit are the real slice's
        "sampler": pa.string(),
        "steps": pa.int32(),
        "guidance": pa.float64(),
        "model_sha256": pa.string(),
        "spacing_mm": _SPACING,
        "image": "int16",
        "label": "uint8",
        "nodules": _NODULES,
    },
}

# Columns that follow the others where the job was asked for them: all of them or none, so that the rows of
# other jobs stay what they were.
_EXTRA_COLUMNS: dict[Kind, dict[str, Any]] = {
    Kind.SAMPLES: {
        "hu_retries": pa.int8(),  # how often the image was sampled before, and thrown away
        "hu_outside": pa.bool_(),  # whether this one, too, leaves the range of the training images
    },
}


def schema_for(kind: Kind, height: int, width: int, *, extra: bool = False) -> pa.Schema:
    """The columns of a kind of dataset whose images have a given size.

    Args:
        kind: A kind with rows: slices, crops or samples.
        height: Rows of an image, in px.
        width: Columns of an image, in px.
        extra: With the columns that only some jobs write: of samples those of the gate on Hounsfield units.
    """
    if kind not in _COLUMNS:
        raise InputError(f"a {kind.value} dataset has files, no rows")

    fields = []
    columns = _COLUMNS[kind] | (_EXTRA_COLUMNS[kind] if extra else {})
    for name, column_type in columns.items():
        if isinstance(column_type, str):
            column_type = pa.fixed_shape_tensor(pa.type_for_alias(column_type), [height, width])
        fields.append(pa.field(name, column_type, nullable=False))
    return pa.schema(fields)


def table_from_rows(
    kind: Kind,
    rows: Sequence[dict[str, Any]],
    *,
    shape: tuple[int, int] | None = None,
    extra: bool = False,
) -> pa.Table:
    """Put rows into a table, and check every value.

    Args:
        kind: A kind with rows.
        rows: Column name to value; images and maps are numpy arrays [H, W] of the column's type.
        shape: Height and width of the images, in px; needed only when there are no rows.
        extra: As of ``schema_for``.

    Raises:
        InputError: A column is missing or unknown, or a value is wrong; names the column and the row.
    """
    if shape is None:
        if not rows:
            raise InputError(f"no {kind.value} rows: give the shape of their images")
        first = rows[0].get("image")
        if not isinstance(first, np.ndarray) or first.ndim != 2 or not first.size:
            raise InputError("image of row 0: expected an array of height and width")
        shape = first.shape
    schema = schema_for(kind, *shape, extra=extra)
    for index, row in enumerate(rows):
        if row.keys() != set(schema.names):
            missing, unknown = sorted(set(schema.names) - row.keys()), sorted(row.keys() - set(schema.names))
            raise InputError(f"{kind.value} row {index}: columns missing {missing}, unknown {unknown}")
    columns = [_column(field, [row[field.name] for row in rows]) for field in schema]
    table = pa.Table.from_arrays(columns, schema=schema)
    validate_table(kind, table)
    return table


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    if isinstance(field.type, pa.FixedShapeTensorType):
        dtype, shape = np.dtype(field.type.value_type.to_pandas_dtype()), tuple(field.type.shape)
        for index, value in enumerate(values):
            got = (value.dtype, value.shape) if isinstance(value, np.ndarray) else (type(value).__name__, "")
            if got != (dtype, shape):
                raise InputError(
                    f"{field.name} of row {index}: expected {dtype} {shape}, got {got[0]} {got[1]}"
                )
        flat = np.concatenate([value.ravel() for value in values]) if values else np.empty(0, dtype)
        storage = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type.storage_type)
        return pa.ExtensionArray.from_storage(field.type, storage)
    if pa.types.is_integer(field.type):  # Arrow would cut 1.5 down to 1
        for index, value in enumerate(values):
            if not isinstance(value, numbers.Integral):
                raise InputError(f"{field.name} of row {index}: expected {field.type}, got {value!r}")
    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{field.name}: expected {field.type}: {error}") from error


def validate_table(kind: Kind, table: pa.Table) -> None:
    """Check the columns of a table and every value in it.

    Raises:
        InputError: Names the column, the first bad row and what is wrong with it.
    """
    shape = validate_schema(kind, table.schema)
    validate_values(table, shape)


def validate_schema(kind: Kind, schema: pa.Schema) -> tuple[int, int]:
    """Check that the columns are those of the kind.

    Returns:
        Height and width of the images, in px.

    Raises:
        InputError: Names the first column that differs.
    """
    position = schema.get_field_index("image")
    image = schema.field(position).type if position >= 0 else None
    if not isinstance(image, pa.FixedShapeTensorType) or len(image.shape) != 2:
        raise InputError(f"image: expected a tensor column of height and width, got {image}")
    height, width = image.shape
    extra = not _EXTRA_COLUMNS.get(kind, {}).keys().isdisjoint(schema.names)
    expected = schema_for(kind, height, width, extra=extra)
    if schema.names != expected.names:
        raise InputError(f"a {kind.value} dataset has the columns {expected.names}, not {schema.names}")
    for field, right in zip(schema, expected, strict=True):
        if not field.equals(right, check_metadata=False):
            raise InputError(f"{field.name}: expected {_describe(right)}, got {_describe(field)}")
    return height, width


def _describe(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ' without nulls'}"

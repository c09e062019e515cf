"""Rows of a table as Python values: the way back from ``table_from_rows``."""

from typing import Any

import pyarrow as pa

from lungforge.store.checks import tensor_values


def rows_from_table(table: pa.Table) -> list[dict[str, Any]]:
    """Column name to value for each row; images and maps are numpy arrays [H, W], the rest plain values."""
    tensors = {
        field.name: tensor_values(table.column(field.name))
        for field in table.schema
        if isinstance(field.type, pa.FixedShapeTensorType)
    }
    plain = table.drop_columns(list(tensors)).to_pylist()
    return [
        row | {name: values[index] for name, values in tensors.items()} for index, row in enumerate(plain)
    ]

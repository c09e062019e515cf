"""Parts of rows: a table as the bytes of a Parquet file, the same bytes for the same rows, and back."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lungforge.datasets.schemas import Kind, validate_table
from lungforge.datasets.validation import tensor_values

#: So that a reader streams: a row group is the least that it holds in memory.
ROWS_PER_GROUP = 128


def encode(table: pa.Table, kind: Kind, work: str, unit: str) -> bytes:
    """A table as a Parquet file.

    The bytes depend on nothing but the arguments and the release of pyarrow. Pages carry checksums,
    and the file says which unit of which work it is.

    Args:
        table: Valid rows of the kind.
        kind: What the rows are.
        work: The digest of the work that the part belongs to.
        unit: The unit of the work.
    """
    notes = {"lungforge.kind": kind.value, "lungforge.unit": unit, "lungforge.work": work}
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(notes),
        sink,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        # Neighbouring HU differ little, maps have few values: smaller than plain pages, and quicker to write.
        use_dictionary=["label.list.element"],
        column_encoding={"image.list.element": "DELTA_BINARY_PACKED"},
        write_statistics=False,
        write_page_checksum=True,
    )
    return sink.getvalue()


def decode_own(data: bytes, kind: Kind, work: str, unit: str) -> pa.Table | None:
    """The rows of a part, if it is exactly what ``encode`` writes for this unit of this work; else None.

    Page checksums guard the values but not the footer, so the rows are encoded again: not one altered
    byte goes unnoticed.
    """
    try:
        # Not read_table: its scanner's threads may abort a process that ends right afterwards.
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            table = file.read()
        validate_table(kind, table)
    except (OSError, ValueError, pa.ArrowException):
        return None
    return table if encode(table, kind, work, unit) == data else None


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

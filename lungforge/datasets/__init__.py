"""Datasets on a file system or object storage: typed rows and files under one manifest that commits them.

A writer puts parts down one by one, each whole or not at all, and commits them by creating
``manifest.json`` once. A reader believes the manifest only. See ``writer.py`` for why a job may be
killed at any moment and run again.
"""

from lungforge.datasets.dataset import Dataset
from lungforge.datasets.manifest import SCHEMA_VERSION, Manifest, Parent, Part
from lungforge.datasets.parquet import rows_from_table
from lungforge.datasets.schemas import Kind, schema_for, table_from_rows, validate_table
from lungforge.datasets.validation import tensor_values
from lungforge.datasets.writer import DatasetWriter

__all__ = [
    "SCHEMA_VERSION",
    "Dataset",
    "DatasetWriter",
    "Kind",
    "Manifest",
    "Parent",
    "Part",
    "rows_from_table",
    "schema_for",
    "table_from_rows",
    "tensor_values",
    "validate_table",
]

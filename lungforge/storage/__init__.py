"""Files on local disk and object storage: the only door to both, for every other package."""

from lungforge.storage.files import join_uri, open_uri, read_bytes, write_bytes_atomic

__all__ = ["join_uri", "open_uri", "read_bytes", "write_bytes_atomic"]

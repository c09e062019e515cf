"""What of a job's configuration decides its results, as JSON, and the digest of it.

A configuration is a frozen dataclass. Fields that change only where and how fast a job runs (the
number of workers, where the output goes) carry ``metadata=EXECUTION`` and are left out, so that the
same work has the same digest wherever it is done.
"""

import dataclasses
import enum
import hashlib
import json
from typing import Any

#: Metadata of a dataclass field that has no influence on the results.
EXECUTION = {"execution": True}


def identity(config: Any) -> dict[str, Any]:
    """The fields of a configuration that decide its results, as JSON values.

    Args:
        config: A dataclass instance; its fields are JSON values, enums, tuples, or such dataclasses.

    Returns:
        Field name to value, without the fields marked ``EXECUTION``; tuples become lists.
    """
    return {
        field.name: _json_value(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if not field.metadata.get("execution")
    }


def digest(document: dict[str, Any]) -> str:
    """The sha256, in hexadecimal, of a JSON document in its canonical form (sorted keys, no spaces)."""
    canonical = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return identity(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a configuration holds JSON values, not {type(value).__name__}: {value!r}")

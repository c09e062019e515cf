"""How long a training took, beside the model and no part of it: another machine takes another time."""

import json
import math

from lungforge.datasets.strict_json import parse_json
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there

_NAME = "training_time.json"


def read_training_seconds(uri: str) -> float | None:
    """The seconds that are recorded in the folder of a model; None where there are none.

    Raises:
        AccessError: The place cannot be read now.
    """
    data = read_if_there(join_uri(uri, _NAME))
    try:
        seconds = parse_json(data or b"")["seconds"]
    except (ValueError, KeyError, TypeError):
        return None
    sound = type(seconds) in (int, float) and math.isfinite(seconds) and seconds >= 0
    return float(seconds) if sound else None


def write_training_seconds(uri: str, seconds: float) -> None:
    """Record the seconds.

    Raises:
        AccessError: The place cannot be written now.
    """
    write_bytes_atomic(join_uri(uri, _NAME), f"{json.dumps({'seconds': round(seconds, 1)})}\n".encode())

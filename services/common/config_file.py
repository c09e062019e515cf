"""The configuration that a job ran with, as a file beside its output: ``--config`` takes it.

It leaves out where the output is, how many workers there were, and the like: the same work has the same file.

TOML has no null: what is None by default is left out, and None in the place of another default is the text
"None", as on the command line.
"""

import dataclasses
import json
from typing import Any

from lungforge.public_uri import public_json
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there

CONFIG_NAME = "config.toml"
#: Where and how a job runs, and not what it does.
LEFT_OUT = ("out", "workers", "dry_run", "retry_rejected")
#: None where the default is another value.
NONE = "None"


def keep_config(command: str, config: Any, folder: str) -> None:
    """Write the configuration of a job into the folder of its output, where it is not there already.

    Args:
        command: The command of ``lungforge``.
        config: Its configuration.
        folder: URI of the output. No finished dataset of other work is there.

    Raises:
        AccessError: The place cannot be read or written now.
    """
    uri, data = join_uri(folder, CONFIG_NAME), to_toml(command, config).encode()
    if read_if_there(uri) != data:
        write_bytes_atomic(uri, data)


def to_toml(command: str, config: Any) -> str:
    """A configuration as TOML: the same text for the same configuration.

    Args:
        command: The command of ``lungforge``.
        config: A dataclass instance: texts, numbers, switches, tuples, and such dataclasses, which become
            tables.
    """
    lines = [f"# lungforge {command} --config {CONFIG_NAME} --out URI"]
    tables: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in LEFT_OUT:
            continue
        if dataclasses.is_dataclass(value):
            tables += ["", f"[{field.name}]"]
            for inner in dataclasses.fields(value):
                tables += _line(inner, getattr(value, inner.name))
        else:
            lines += _line(field, value)
    return "\n".join([*lines, *tables, ""])


def _line(field: dataclasses.Field[Any], value: Any) -> list[str]:
    if value is None:
        return [] if field.default is None else [f'{field.name} = "{NONE}"']
    return [f"{field.name} = {_toml(public_json(value))}"]


def _toml(value: Any) -> str:
    """A value in TOML, whose texts are those of JSON but for one character."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case tuple() | list():
            return f"[{', '.join(map(_toml, value))}]"
        case int() | float():
            return repr(value)
        case _:
            raise TypeError(f"a configuration holds no {type(value).__name__}: {value!r}")

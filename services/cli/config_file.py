"""Reading the file of ``--config``: the fields of a command's configuration, as TOML."""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from lungforge.errors import InputError
from lungforge.public_uri import require_public
from lungforge.storage import read_bytes
from services.cli.options import Option
from services.common.config_file import NONE

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """What a file says, not yet checked against a command.

    Attributes:
        uri: Where it is.
        values: Value by dotted name, ``network.base_channels``.
    """

    uri: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, uri: str) -> "ConfigFile":
        """Read a file.

        Args:
            uri: Path or URI.

        Raises:
            InputError: There is none, it is no TOML, or a URI in it has a secret.
            AccessError: It cannot be read now.
        """
        try:
            document = tomllib.loads(read_bytes(uri).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"--config {uri} is no TOML: {error}") from error
        values = dict(_flat(document))
        for name, value in values.items():
            for text in (name, *_texts(value)):  # first, as the other messages quote them
                require_public(f"{name.partition('=')[0]} in {uri}" if text != name else uri, text)
        return cls(uri, values)

    def value(self, name: str, hint: Any) -> Any:
        """The value of a name that decides what other names there are; None where it is not given.

        Raises:
            InputError: It is of another type.
        """
        given = self.values.get(name)
        try:
            return None if given is None else _of_type(hint, given)
        except _OtherTypeError as error:
            raise InputError(f"{self.uri}: {name} is {given!r}; give {error}") from None

    def converted(self, options: Mapping[str, Option]) -> dict[str, Any]:
        """The values in the types of a command's options, by the options' names.

        Raises:
            InputError: The command has no option of a name, or takes values of another type.
        """
        for name in self.values.keys() - options.keys():
            close = difflib.get_close_matches(name.replace("-", "_"), options, n=1, cutoff=0.5)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{self.uri} has {name}, which is no option of this command{meant}")
        return {name: self._converted(options[name], value) for name, value in self.values.items()}

    def _converted(self, option: Option, value: Any) -> Any:
        if option.optional and value == NONE:
            return None
        try:
            converted = _of_type(option.hint, value)
            # 1 is 1.0, as on the command line. Lists stay as they are: those of presets have whole numbers.
            return float(converted) if option.hint is float else converted
        except _OtherTypeError as error:
            raise InputError(f"{self.uri}: {option.name} is {value!r}; give {error}") from None


class _OtherTypeError(Exception):
    """Says what type is needed."""


def _of_type(hint: Any, value: Any) -> Any:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise _OtherTypeError("a list in brackets")
        if arguments[-1] is Ellipsis:
            return tuple(_of_type(arguments[0], item) for item in value)
        if len(value) != len(arguments):
            raise _OtherTypeError(f"lists of {len(arguments)} values")
        return tuple(map(_of_type, arguments, value))
    if typing.get_origin(hint) is Literal:
        if value not in arguments:
            raise _OtherTypeError(f"one of {', '.join(map(str, arguments))}")
        return value
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise _OtherTypeError(_WORDS[hint])
    return value


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)

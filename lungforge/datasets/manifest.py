"""The manifest: what a dataset is, how it was made, from what, and which parts it has."""

import dataclasses
import hashlib
import re
from typing import Any

from lungforge.config import digest
from lungforge.datasets.schemas import Kind
from lungforge.datasets.strict_json import parse_json
from lungforge.errors import ContentError
from lungforge.public_uri import json_bytes, public_json, public_uri
from lungforge.storage import join_uri
from lungforge.storage.reading import file_size, read_range

#: Grows when the rows or the manifest change so that older code would misread them.
SCHEMA_VERSION = 1
#: The file whose creation commits a dataset.
MANIFEST_NAME = "manifest.json"
#: The largest manifest: some 250,000 parts.
MAX_BYTES = 64 * 2**20
#: Parents of a dataset: an evaluation has one more than sets of samples.
MAX_PARENTS = 1000

_PART_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: What would move the cursor of a terminal; no URI and no version has such.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_PATH, _MAX_TEXT = 1024, 4096
#: Of sizes, counts and seeds: what a signed integer of 64 bits holds.
_MAX_INTEGER = 2**63
#: Characters of a reason: it quotes what was read.
_REASON = 200


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a dataset."""

    path: str
    """Relative to the dataset."""
    rows: int
    """0 for a file that holds no rows."""
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


def part_of(path: str, data: bytes, rows: int = 0) -> Part:
    """The part that is a file at a path, relative to the dataset, with some content."""
    return Part(path=path, rows=rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclasses.dataclass(frozen=True)
class Parent:
    """A dataset that this one was made from."""

    uri: str
    """Where it was then; the sha256 says what it was."""
    sha256: str
    """Of its manifest, and so of all its parts."""
    kind: Kind

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", public_uri(self.uri))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``: the same work, the same bytes; no times, hosts or worker counts.

    One that comes from elsewhere may have a password in a URI. It is lost here, so that it goes nowhere else.
    """

    kind: Kind
    config: dict[str, Any]
    """What of the job's configuration decides the result."""
    parts: tuple[Part, ...]
    parents: tuple[Parent, ...]
    code_version: str
    seed: int | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What else there is to know of the dataset, as JSON: counts, what was rejected and why, ..."""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", public_json(self.config))
        object.__setattr__(self, "details", public_json(self.details))

    @property
    def config_sha256(self) -> str:
        """The digest of ``config``."""
        return digest(self.config)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts together."""
        return sum(part.bytes for part in self.parts)

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, one space of indentation, UTF-8."""
        return json_bytes({**dataclasses.asdict(self), "config_sha256": self.config_sha256})

    @classmethod
    def from_bytes(cls, data: bytes, uri: str) -> "Manifest":
        """Read a manifest.

        Args:
            data: The content of the file.
            uri: Where it was read, for the errors.

        Raises:
            ContentError: It is no manifest, was altered by hand, or is of a newer schema.
        """
        try:
            if len(data) > MAX_BYTES:
                raise ValueError(f"{len(data)} bytes, and at most {MAX_BYTES} are read")
            document = parse_json(data)
            version = document["schema_version"]
            if type(version) is not int or version < 1:
                raise ValueError(f"schema_version {version!r}")
            if version > SCHEMA_VERSION:
                raise ContentError(
                    f"{uri}: written with schema {version}, and this LungForge reads up to {SCHEMA_VERSION}; "
                    "install a newer release"
                )
            manifest = _from_document(document)
        except ContentError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_REASON]
            raise ContentError(
                f"{uri}: not a LungForge manifest ({reason}); make the dataset again"
            ) from error
        return manifest


def read_manifest(uri: str) -> tuple[Manifest, bytes] | None:
    """The manifest of the dataset at a URI, and its bytes; None where there is none.

    Raises:
        ContentError: It is damaged, no manifest of LungForge, or of a newer schema.
        AccessError: It cannot be read now.
    """
    place = join_uri(uri, MANIFEST_NAME)
    try:
        size = file_size(place)
        if size > MAX_BYTES:
            raise ContentError(
                f"{uri}: not a LungForge manifest ({size} bytes, and at most {MAX_BYTES} are read); "
                "make the dataset again"
            )
        data = read_range(place, 0, size)
    except FileNotFoundError:
        return None
    return Manifest.from_bytes(data, uri), data


def _from_document(document: dict[str, Any]) -> Manifest:
    manifest = Manifest(
        kind=Kind(document["kind"]),
        config=_require(document["config"], dict, "config"),
        parts=tuple(_part(part) for part in _require(document["parts"], list, "parts")),
        parents=tuple(_parent(parent) for parent in _require(document["parents"], list, "parents")),
        code_version=_text(document["code_version"], "code_version"),
        seed=None if document["seed"] is None else _integer(document["seed"], "seed", -_MAX_INTEGER),
        details=_require(document["details"], dict, "details"),
        schema_version=document["schema_version"],
    )
    names = [part.name for part in manifest.parts]
    if len(set(names)) < len(names):
        raise ValueError("two parts have the same name")
    if MANIFEST_NAME in names:
        raise ValueError(f"{MANIFEST_NAME} is no part")
    if len(manifest.parents) > MAX_PARENTS:
        raise ValueError(f"{len(manifest.parents)} parents, and at most {MAX_PARENTS} are followed")
    if document["config_sha256"] != digest(document["config"]):
        raise ValueError("config_sha256 does not fit config")
    return manifest


def _part(document: dict[str, Any]) -> Part:
    part = Part(**_require(document, dict, "a part"))
    # No dataset of LungForge has a path that leaves it.
    if (
        len(part.path) > _MAX_PATH
        or not _PART_PATH.fullmatch(part.path)
        or not _SHA256.fullmatch(part.sha256)
    ):
        raise ValueError(f"part {part.path[:_MAX_PATH]!r}")
    for size in (part.rows, part.bytes):
        if type(size) is not int or not 0 <= size < _MAX_INTEGER:
            raise ValueError(f"part {part.path!r} has a negative size, or one that is no whole number")
    return part


def _parent(document: dict[str, Any]) -> Parent:
    values = dict(_require(document, dict, "a parent"))
    uri = _text(values.pop("uri"), "the URI of a parent")
    sha256, kind = values.pop("sha256"), values.pop("kind")
    if values:
        raise ValueError(f"parent {public_uri(uri)!r} has an unknown {min(values)}")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"parent {public_uri(uri)!r}: no sha256")
    return Parent(uri, sha256, Kind(kind))


def _require(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def _text(value: Any, name: str) -> str:
    text: str = _require(value, str, name)
    if not 0 < len(text) <= _MAX_TEXT or _CONTROL.search(text):
        raise ValueError(f"{name} is empty, longer than {_MAX_TEXT} characters, or not plain text")
    return text


def _integer(value: Any, name: str, least: int) -> int:
    if type(value) is not int or not least <= value < _MAX_INTEGER:
        raise ValueError(f"{name} is {value!r}")
    return value

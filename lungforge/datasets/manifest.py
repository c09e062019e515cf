"""The manifest: what a dataset is, how it was made, from what, and which parts it has."""

import dataclasses
import hashlib
import json
import re
from typing import Any

from lungforge.config import digest
from lungforge.datasets.schemas import Kind
from lungforge.errors import ContentError
from lungforge.public_uri import json_bytes, public_json, public_uri

#: Grows when the rows or the manifest change so that older code would misread them.
SCHEMA_VERSION = 1
#: The file whose creation commits a dataset.
MANIFEST_NAME = "manifest.json"

_PART_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
            document = json.loads(data)
            version = document["schema_version"]
            if not isinstance(version, int) or version < 1:
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
            raise ContentError(
                f"{uri}: not a LungForge manifest ({type(error).__name__}: {error}); make the dataset again"
            ) from error
        return manifest


def _from_document(document: dict[str, Any]) -> Manifest:
    parts = tuple(Part(**part) for part in document["parts"])
    for part in parts:
        # No dataset of LungForge has a path that leaves it.
        if not _PART_PATH.fullmatch(part.path) or not _SHA256.fullmatch(part.sha256):
            raise ValueError(f"part {part.path!r}")
        if min(part.rows, part.bytes) < 0:
            raise ValueError(f"part {part.path!r} has a negative size")
    manifest = Manifest(
        kind=Kind(document["kind"]),
        config=dict(document["config"]),
        parts=parts,
        parents=tuple(Parent(p["uri"], p["sha256"], Kind(p["kind"])) for p in document["parents"]),
        code_version=str(document["code_version"]),
        seed=document["seed"],
        details=dict(document["details"]),
        schema_version=document["schema_version"],
    )
    if document["config_sha256"] != digest(document["config"]):
        raise ValueError("config_sha256 does not fit config")
    return manifest

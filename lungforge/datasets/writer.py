"""Writing a dataset: parts first, then the manifest that commits them.

Why a job may be killed at any moment and run again, and why two may race:

- A part appears whole or not at all, under a name made of the unit of work that it holds. It is never
  replaced while it is sound: a second writer keeps it.
- Parts lie in a folder named by the digest of the work (configuration, seed, parents, code), files in one
  named by their content. So works that differ never touch one another's files.
- The manifest is created once. A second writer gets an error, unless its manifest says the same. A finished
  dataset may be committed anew with more parts; then its manifest is replaced at once, if nobody else did.
"""

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lungforge import __version__
from lungforge.config import digest
from lungforge.datasets import parquet
from lungforge.datasets.manifest import (
    MANIFEST_NAME,
    MAX_BYTES,
    SCHEMA_VERSION,
    Manifest,
    Parent,
    Part,
    part_of,
    read_manifest,
)
from lungforge.datasets.schemas import Kind, validate_table
from lungforge.errors import AccessError, InputError
from lungforge.storage.files import (
    absolute_uri,
    join_uri,
    read_if_there,
    remove_temporaries,
    replace_bytes,
    require_writable,
    write_bytes_atomic,
)
from lungforge.storage.reading import list_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Digits of a digest in the name of a folder.
_DIGITS = 12


class OtherDatasetError(InputError):
    """A finished dataset of other work is in the place, as its manifest proves.

    Attributes:
        kind: What it holds.
    """

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__(message, kind)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


@dataclasses.dataclass(frozen=True)
class DatasetWriter:
    """Writes one dataset. Plain data: it goes to other processes as it is."""

    uri: str
    kind: Kind
    config: dict[str, Any]
    """What of the job's configuration decides the result; JSON values."""
    seed: int | None = None
    parents: tuple[Parent, ...] = ()

    def __post_init__(self) -> None:
        # A worker may have another working directory.
        object.__setattr__(self, "uri", absolute_uri(self.uri))

    @property
    def work(self) -> str:
        """The digest of everything that decides the content: the same work, the same parts."""
        return digest(
            {
                "schema_version": SCHEMA_VERSION,
                "code_version": __version__,
                "kind": self.kind.value,
                "config": self.config,
                "seed": self.seed,
                "parents": [[parent.kind.value, parent.sha256] for parent in self.parents],
            }
        )

    def find_manifest(self) -> Manifest | None:
        """The manifest of the finished dataset, or None when it is yet to be made.

        Then the place is tried as well: hours of work are not to end at a manifest that cannot be committed.

        Raises:
            OtherDatasetError: A finished dataset of other work is there; names what differs.
            ContentError: The manifest is damaged.
            AccessError: It cannot be read now.
            AccessRefusedError: Nothing may be written there, or two writers would overwrite each other.
        """
        found = read_manifest(self.uri)
        if found is None:
            require_writable(self.uri)
            return None
        manifest, _ = found
        self._refuse_other_work(manifest)
        self._remove_temporaries(manifest.parts)
        return manifest

    def find_part(self, unit: str) -> Part | None:
        """The part of an earlier run that holds a unit of this work, if every byte is as it was written."""
        found = self.find_rows(unit)
        return None if found is None else found[0]

    def find_rows(self, unit: str) -> tuple[Part, pa.Table] | None:
        """The same part with its rows."""
        path = self._part_path(unit)
        data = read_if_there(join_uri(self.uri, path))
        table = None if data is None else parquet.decode_own(data, self.kind, self.work, unit)
        return None if data is None or table is None else (part_of(path, data, table.num_rows), table)

    def write_part(self, unit: str, table: pa.Table) -> Part:
        """Write the rows of one unit of work.

        If the part is there and sound, it is kept and returned: its rows count, not these. So a second
        writer of the same work cannot take a part away under the manifest of the first.

        Args:
            unit: The name of the unit: letters, digits, dot, dash, underscore.
            table: Rows of the dataset's kind.

        Raises:
            InputError: A row is wrong.
            AccessError: The place cannot be written now.
        """
        validate_table(self.kind, table)
        path = self._part_path(unit)
        data = parquet.encode(table, self.kind, self.work, unit)
        try:
            write_bytes_atomic(join_uri(self.uri, path), data, exclusive=True)
        except FileExistsError:
            present = self.find_part(unit)
            if present is not None:
                return present
            write_bytes_atomic(join_uri(self.uri, path), data)
        return part_of(path, data, table.num_rows)

    def write_file(self, name: str, data: bytes) -> Part:
        """Write a file that is not rows: weights, a report.

        Args:
            name: By which ``Dataset.read_file`` finds it; letters, digits, dot, dash, underscore.
            data: Its content.
        """
        part = self.file_part(name, data)
        write_bytes_atomic(join_uri(self.uri, part.path), data)
        return part

    def file_part(self, name: str, data: bytes) -> Part:
        """The part that ``write_file`` will make."""
        _require_name(name)
        return part_of(f"files-{hashlib.sha256(data).hexdigest()[:_DIGITS]}/{name}", data)

    def commit(
        self,
        parts: Sequence[Part],
        details: dict[str, Any] | None = None,
        *,
        replacing: Manifest | None = None,
    ) -> Manifest:
        """Make the dataset visible to readers. Done once; the same commit again changes nothing.

        Args:
            parts: What the dataset consists of, in any order.
            details: What else the manifest says; JSON values.
            replacing: The manifest of the finished dataset that this one takes the place of, at once: a
                reader sees the old one or the new one, also after a kill.

        Raises:
            InputError: Another writer was first.
            AccessError: The place cannot be written now, or a part is gone.
        """
        manifest = Manifest(
            kind=self.kind,
            config=self.config,
            parts=tuple(sorted(parts, key=lambda part: part.path)),
            parents=self.parents,
            code_version=__version__,
            seed=self.seed,
            details=details or {},
        )
        names = [part.name for part in manifest.parts]
        assert len(set(names)) == len(names), f"parts of the same name: {names}"
        if replacing is not None and _result(replacing) == _result(manifest):
            return replacing
        self._require_present(manifest.parts)
        uri, data = join_uri(self.uri, MANIFEST_NAME), manifest.to_bytes()
        if len(data) > MAX_BYTES:
            raise InputError(
                f"{self.uri}: the manifest would have {len(data)} bytes, and at most {MAX_BYTES} are read; "
                "make several smaller datasets"
            )
        try:
            if replacing is None:
                write_bytes_atomic(uri, data, exclusive=True)
            else:
                replace_bytes(uri, data, expected=replacing.to_bytes())
        except FileExistsError:
            present = self.find_manifest()  # raises when the work differs
            if present is None or _result(present) != _result(manifest):
                raise InputError(
                    f"{self.uri}: another writer of the same configuration finished first, with another "
                    "result; use what is there, or choose another --out"
                ) from None
            return present
        self._remove_temporaries(manifest.parts)
        return manifest

    def _refuse_other_work(self, manifest: Manifest) -> None:
        present = _identity(manifest.kind, manifest.config, manifest.seed, manifest.parents)
        wanted = _identity(self.kind, self.config, self.seed, self.parents)
        differing = [
            f"{name} ({present.get(name)!r} there, {wanted.get(name)!r} here)"
            for name in sorted(present.keys() | wanted.keys())
            if present.get(name) != wanted.get(name)
        ]
        if differing:
            raise OtherDatasetError(
                f"{self.uri}: another dataset is there, which differs in {', '.join(differing)}; "
                "choose another --out",
                manifest.kind,
            )

    def _require_present(self, parts: Sequence[Part]) -> None:
        """Never commit what a reader would not find. One listing a folder, not one request a part."""
        sizes: dict[str, int] = {}
        for folder in sorted({part.path.rsplit("/", 1)[0] for part in parts}):
            with contextlib.suppress(FileNotFoundError):
                listed = list_folder(join_uri(self.uri, folder))
                sizes |= {f"{folder}/{entry.name}": entry.size for entry in listed}
        gone = [part.path for part in parts if sizes.get(part.path) != part.bytes]
        if gone:
            raise AccessError(f"{self.uri}: gone or altered before the end: {gone[0]}; run the job again")

    def _remove_temporaries(self, parts: Sequence[Part]) -> None:
        folders = {part.path.rsplit("/", 1)[0] for part in parts}
        for uri in [self.uri, *(join_uri(self.uri, folder) for folder in sorted(folders))]:
            remove_temporaries(uri)

    def _part_path(self, unit: str) -> str:
        _require_name(unit)
        return f"parts-{self.work[:_DIGITS]}/part-{unit}.parquet"


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a part: use letters, digits, dot, dash and underscore")


def _result(manifest: Manifest) -> bytes:
    """The result of the work, without where its input was and which release did it."""
    return dataclasses.replace(manifest, parents=(), code_version="").to_bytes()


def _identity(
    kind: Kind, config: dict[str, Any], seed: int | None, parents: Sequence[Parent]
) -> dict[str, Any]:
    """What must agree for two datasets to be the same work; no field of a config has a name with a space."""
    return {
        **_flat(config),
        "the kind": kind.value,
        "the seed": seed,
        "the input": [parent.sha256[:_DIGITS] for parent in parents],
    }


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested configurations as one dictionary of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat

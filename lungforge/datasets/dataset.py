"""Reading a dataset: only what its manifest lists, and nothing that is not as it was written."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from lungforge.datasets.manifest import MANIFEST_NAME, Manifest, Parent, Part, read_manifest
from lungforge.datasets.parquet import ROWS_PER_GROUP
from lungforge.datasets.schemas import MADE_BY, Kind, validate_schema
from lungforge.datasets.validation import validate_values
from lungforge.errors import ContentError, InputError
from lungforge.storage.files import absolute_uri, join_uri
from lungforge.storage.verified import AlteredError, open_verified, read_verified

#: How many bad parts an error names.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A committed dataset. Plain data: it goes to other processes as it is."""

    uri: str
    manifest: Manifest
    manifest_sha256: str

    @classmethod
    def open(cls, uri: str, kind: Kind | None = None) -> "Dataset":
        """Read the manifest of a dataset.

        Args:
            uri: The folder.
            kind: What it must hold; None for anything.

        Raises:
            InputError: There is no manifest, or the kind is another.
            ContentError: The manifest is damaged, or of a newer schema.
            AccessError: It cannot be read now.
        """
        uri = absolute_uri(uri)
        found = read_manifest(uri)
        if found is None:
            remedy = f"run `{MADE_BY[kind]}`" if kind else "run its job"
            raise InputError(f"{uri}: no {MANIFEST_NAME}: no dataset, or not finished; {remedy} (again)")
        manifest, data = found
        if kind is not None and manifest.kind is not kind:
            raise InputError(
                f"{uri}: a {manifest.kind.value} dataset, made by `{MADE_BY[manifest.kind]}`; "
                f"a {kind.value} dataset is needed, made by `{MADE_BY[kind]}`"
            )
        return cls(uri=uri, manifest=manifest, manifest_sha256=hashlib.sha256(data).hexdigest())

    def parent(self) -> Parent:
        """What a dataset that is made from this one puts into its lineage."""
        return Parent(uri=self.uri, sha256=self.manifest_sha256, kind=self.manifest.kind)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, by path."""
        return self.manifest.parts

    @property
    def rows(self) -> int:
        """Rows of all parts together."""
        return sum(part.rows for part in self.manifest.parts)

    def read_part(self, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one part, checked against the schema.

        Args:
            part: One of ``parts``.
            columns: Only these; None for all.

        Raises:
            ContentError: The part is missing, altered, or holds a wrong value.
            AccessError: It cannot be read now.
        """
        with self._parquet(part, self._read_checked(part)) as (file, shape):
            table = file.read(columns=_known(columns, file))
            validate_values(table, shape)
            return table

    def iter_batches(
        self, part: Part, columns: Sequence[str] | None = None, batch_rows: int = ROWS_PER_GROUP
    ) -> Iterator[pa.Table]:
        """The rows of one part in order, a few at a time, so that memory holds one row group of images.

        The file itself, which is compressed, is in memory as a whole: the bytes that are read are those whose
        sha256 was compared.

        Args:
            part: One of ``parts``.
            columns: Only these; None for all.
            batch_rows: Rows of a table, at most.

        Raises:
            ContentError: The part is missing, altered, or holds a wrong value.
            AccessError: It cannot be read now.
        """
        with self._parquet(part, self._read_checked(part)) as (file, shape):
            for batch in file.iter_batches(batch_size=batch_rows, columns=_known(columns, file)):
                table = pa.Table.from_batches([batch])
                validate_values(table, shape)
                yield table

    def read_group(self, part: Part, group: int) -> pa.Table:
        """One row group of a part: the least that can be read of it; otherwise as ``read_groups``."""
        (table,) = self.read_groups(part, (group,))
        return table

    def read_groups(self, part: Part, groups: Sequence[int]) -> Iterator[pa.Table]:
        """Some row groups of a part, one after another; the part is opened once.

        Args:
            part: One of ``parts``.
            groups: Indices of the row groups, from 0.

        Raises:
            ContentError: The part is missing, altered, or holds a wrong value.
            AccessError: It cannot be read now.
        """
        with self.open_part(part) as (file, shape):
            for group in groups:
                table = file.read_row_group(group)
                validate_values(table, shape)
                yield table

    def read_file(self, name: str) -> bytes:
        """The content of a file that the manifest lists, its sha256 checked.

        Raises:
            InputError: It is not listed.
            ContentError: It is missing or altered.
            AccessError: It cannot be read now.
        """
        for part in self.manifest.parts:
            if part.name == name:
                return self._read_checked(part)
        raise InputError(f"{self.uri}: a {self.manifest.kind.value} dataset without {name}; {self._remedy()}")

    def verify(self) -> None:
        """Read every part and compare its sha256.

        Raises:
            ContentError: Names the first parts that are missing or altered, and how many there are.
            AccessError: A part cannot be read now.
        """
        bad = []
        for part in self.manifest.parts:
            try:
                self._read_checked(part)
            except ContentError as error:
                bad.append(str(error))
        if bad:
            more = f"; {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
            raise ContentError(f"{'; '.join(bad[:_NAMED])}{more}")

    def _read_checked(self, part: Part) -> bytes:
        uri = join_uri(self.uri, part.path)
        with self._as_content(uri):
            return read_verified(uri, size=part.bytes, sha256=part.sha256)

    @contextmanager
    def open_part(self, part: Part) -> Iterator[tuple[pq.ParquetFile, tuple[int, int]]]:
        """A part as a Parquet file to read in places, and height and width of its images.

        The whole file is read once a process, to compare its sha256 before anything is made of it.

        Raises:
            ContentError: The part is missing or altered; also when that shows inside the block.
            AccessError: It cannot be read now; likewise.
        """
        uri = join_uri(self.uri, part.path)
        with (
            self._as_content(uri),
            open_verified(uri, size=part.bytes, sha256=part.sha256) as source,
            self._parquet(part, source) as opened,
        ):
            yield opened

    @contextmanager
    def _parquet(
        self, part: Part, source: BinaryIO | bytes
    ) -> Iterator[tuple[pq.ParquetFile, tuple[int, int]]]:
        content = pa.BufferReader(source) if isinstance(source, bytes) else source
        with (
            self._as_content(join_uri(self.uri, part.path)),
            pq.ParquetFile(content, page_checksum_verification=True) as file,
        ):
            shape = validate_schema(self.manifest.kind, file.schema_arrow)
            if file.metadata.num_rows != part.rows:
                raise InputError(f"{file.metadata.num_rows} rows instead of {part.rows}")
            _require_groups(file)
            yield file, shape

    @contextmanager
    def _as_content(self, uri: str) -> Iterator[None]:
        """Say of a part that is missing or wrong which it is, and what to do."""
        try:
            yield
        except ContentError:
            raise
        except FileNotFoundError as error:
            raise ContentError(f"{uri}: missing; {self._remedy()}") from error
        except (AlteredError, InputError, pa.ArrowException, OSError) as error:
            # Arrow raises a bare OSError; those of file systems are subclasses of it, or have an errno.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise
            reason = " ".join(str(error).split())
            raise ContentError(f"{uri}: altered since it was written: {reason}; {self._remedy()}") from error

    def _remedy(self) -> str:
        return f"make the dataset again with `{MADE_BY[self.manifest.kind]}`"


def _known(columns: Sequence[str] | None, file: pq.ParquetFile) -> list[str] | None:
    """The columns as pyarrow wants them, which would pass over a name that it does not know."""
    assert columns is None or set(columns) <= set(file.schema_arrow.names), columns
    return None if columns is None else list(columns)


def _require_groups(file: pq.ParquetFile) -> None:
    """Refuse row groups that would not fit into memory."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if rows > ROWS_PER_GROUP:
            raise InputError(
                f"row group {group} has {rows} rows, and at most {ROWS_PER_GROUP} are read at once"
            )

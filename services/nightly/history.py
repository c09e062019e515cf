"""The history: one row a night, in a Parquet file that is always written whole."""

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lungforge.errors import AccessError, ContentError
from lungforge.storage import write_bytes_atomic
from lungforge.storage.files import read_if_there, replace_bytes

Status = Literal["done", "worse", "failed"]


@dataclass(frozen=True)
class Night:
    """One row of the history.

    Attributes:
        date: Of the night; no two rows have the same.
        status: done; worse, where the drift rule says so; failed, without metrics.
        settings: Digest of what was generated and how it was measured; nights of one digest are compared.
        model: URI of the model.
        model_sha256: Of its manifest.
        data: URI of the real slices.
        data_sha256: Of their manifest.
        code_version: Of LungForge.
        seconds: How long the run took that wrote the row.
        reason: Why it is worse or failed, in a line; else empty.
        images: Synthetic images that were measured.
        frechet: Mean Fréchet distance of synthetic to real images over random halves at equal image counts;
            None where the real images are too few for halves.
        frechet_spread: Its standard deviation over the halves.
        frechet_real: The same between real and real.
        kid: KID, mean over random subsets.
        kid_spread: Its standard deviation over the subsets.
        near_duplicates: Synthetic images that are near-duplicates of real ones.
        radiomic: Mean radiomic distance of synthetic to real images over random halves; None where it is not
            measured, or in nights before it was.
        radiomic_spread: Its standard deviation over the halves.
        radiomic_real: The same between real and real.
        hu_difference: The largest difference between the median HU of synthetic and of real images, of the
            classes that the report judges, without its sign.
        kid_p_value: That real images of other scans have as large a KID; None with too few scans.
        memorised: Share of the synthetic images in the tail of memorisation.
        memorised_spread: A quarter of the length of its 95 % interval, a standard deviation about.
    """

    date: date
    status: Status
    settings: str
    model: str
    model_sha256: str
    data: str
    data_sha256: str
    code_version: str
    seconds: float
    reason: str = ""
    images: int | None = None
    frechet: float | None = None
    frechet_spread: float | None = None
    frechet_real: float | None = None
    kid: float | None = None
    kid_spread: float | None = None
    near_duplicates: int | None = None
    radiomic: float | None = None
    radiomic_spread: float | None = None
    radiomic_real: float | None = None
    hu_difference: float | None = None
    kid_p_value: float | None = None
    memorised: float | None = None
    memorised_spread: float | None = None


#: Columns that histories of earlier versions lack.
_SINCE: Final = (
    *("radiomic", "radiomic_spread", "radiomic_real", "hu_difference", "kid_p_value"),
    *("memorised", "memorised_spread"),
)
SCHEMA = pa.schema(
    [
        pa.field("date", pa.date32(), nullable=False),
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("status", "settings", "model", "model_sha256", "data", "data_sha256", "code_version")
        ),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("images", pa.int64()),
        *(
            pa.field(name, pa.float64())
            for name in ("frechet", "frechet_spread", "frechet_real", "kid", "kid_spread")
        ),
        pa.field("near_duplicates", pa.int64()),
        *(pa.field(name, pa.float64()) for name in _SINCE),
    ]
)


def read_history(uri: str) -> list[Night]:
    """The nights by date; none when there is no such file yet.

    Raises:
        ContentError: It is no history.
        AccessError: It cannot be read now.
    """
    return _decoded(read_if_there(uri), uri)


def _decoded(data: bytes | None, uri: str) -> list[Night]:
    if data is None:
        return []
    try:
        # Not read_table: its scanner's threads may abort a process that ends right afterwards.
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            table = file.read()
        for name in _SINCE:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), pa.float64()))
        table = table.cast(SCHEMA)
    except (ValueError, OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ContentError(
            f"{uri}: no history of nights ({reason}); move it away, or take a backup"
        ) from error
    return [Night(**row) for row in table.to_pylist()]


def write_history(uri: str, nights: Sequence[Night], *, before: Sequence[Night]) -> None:
    """Write all nights; a reader sees the old file or the new one.

    Args:
        uri: The history.
        nights: What it holds from now on.
        before: What it held when it was read: the rows of another run are never lost.

    Raises:
        AccessError: Another run has written it since it was read, or it cannot be written now.
    """
    content = read_if_there(uri)
    changed = f"{uri}: another run has written it meanwhile; the same command again resumes from there"
    if _decoded(content, uri) != list(before):
        raise AccessError(changed)
    table = pa.Table.from_pylist([dataclasses.asdict(night) for night in nights], schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    try:
        if content is None:
            write_bytes_atomic(uri, sink.getvalue(), exclusive=True)
        else:
            replace_bytes(uri, sink.getvalue(), expected=content)
    except FileExistsError as error:
        raise AccessError(changed) from error


def with_night(nights: Sequence[Night], night: Night) -> list[Night]:
    """The nights with one more, by date; it takes the place of a failed one of the same date."""
    assert find(nights, night.date) is None, f"{night.date} is in the history"
    others = [other for other in nights if other.date != night.date]
    return sorted([*others, night], key=lambda each: each.date)


def find(nights: Sequence[Night], night: date) -> Night | None:
    """The night of a date, unless it failed and is to be tried again."""
    return next((row for row in nights if row.date == night and row.status != "failed"), None)

"""One row a night, and no night twice."""

import io
from datetime import date

import pyarrow.parquet as pq
import pytest

from lungforge.errors import ContentError
from lungforge.storage import read_bytes, write_bytes_atomic
from services.nightly.history import find, read_history, with_night, write_history


def test_what_is_written_is_read(store_uri, make_night):
    uri = f"{store_uri}/history.parquet"
    assert read_history(uri) == []
    failed = make_night(2, status="failed", reason="“no” room")
    nights = [make_night(1, 1 / 3, kid=-1e-9), failed]
    write_history(uri, nights)
    assert read_history(uri) == nights
    # For who reads it with other programs: dates are dates, and what is not known is null.
    table = pq.read_table(io.BytesIO(read_bytes(uri)))
    assert table.column("date").to_pylist() == [date(2026, 3, 1), date(2026, 3, 2)]
    assert table.column("frechet").to_pylist() == [1 / 3, None]
    assert str(table.schema.field("near_duplicates").type) == "int64"


def test_a_night_comes_into_its_place_and_only_once(make_night):
    nights = [make_night(1), make_night(2, status="failed"), make_night(5, status="worse")]
    assert [each.date.day for each in with_night(nights, make_night(3))] == [1, 2, 3, 5]
    again = with_night(nights, make_night(2, 7.0))
    assert [(each.date.day, each.status, each.frechet) for each in again] == [
        (1, "done", 10.0),
        (2, "done", 7.0),
        (5, "worse", 10.0),
    ]
    for day in (1, 5):
        with pytest.raises(AssertionError):
            with_night(nights, make_night(day))


def test_a_failed_night_is_not_compared_with(make_night):
    nights = [make_night(1, status="failed"), make_night(2, status="worse"), make_night(3)]
    previous = [find(nights, each.date) for each in nights]
    assert previous == [None, nights[1], nights[2]]


def test_another_file_is_named(tmp_path):
    path = f"{tmp_path}/history.parquet"
    write_bytes_atomic(path, b"PAR1 and no more")
    with pytest.raises(ContentError, match=r"history.parquet: no history of nights"):
        read_history(path)

"""One row a night, and no night twice."""

import dataclasses
import io
from datetime import date

import pyarrow.parquet as pq
import pytest

from lungforge.errors import AccessError, ContentError
from lungforge.storage import read_bytes, write_bytes_atomic
from services.nightly import history
from services.nightly.history import find, read_history, with_night, write_history


def test_what_is_written_is_read(store_uri, make_night):
    uri = f"{store_uri}/history.parquet"
    assert read_history(uri) == []
    failed = make_night(2, status="failed", reason="“no” room")
    nights = [make_night(1, 1 / 3, kid=-1e-9), failed]
    write_history(uri, nights, before=[])
    assert read_history(uri) == nights
    # For who reads it with other programs: dates are dates, and what is not known is null.
    table = pq.read_table(io.BytesIO(read_bytes(uri)))
    assert table.column("date").to_pylist() == [date(2026, 3, 1), date(2026, 3, 2)]
    assert table.column("frechet").to_pylist() == [1 / 3, None]
    assert str(table.schema.field("near_duplicates").type) == "int64"


def test_a_history_of_an_earlier_version_is_read_and_goes_on(store_uri, make_night):
    uri = f"{store_uri}/history.parquet"
    write_history(uri, [make_night(1)], before=[])
    table = pq.read_table(io.BytesIO(read_bytes(uri))).drop_columns(list(history._SINCE))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    write_bytes_atomic(uri, sink.getvalue())
    (old,) = read_history(uri)
    assert old == dataclasses.replace(make_night(1), **dict.fromkeys(history._SINCE))
    write_history(uri, [old, make_night(2)], before=[old])
    assert read_history(uri) == [old, make_night(2)]


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


def test_the_row_of_another_run_is_never_lost(store_uri, make_night):
    uri = f"{store_uri}/history.parquet"
    write_history(uri, [make_night(1)], before=[])
    with pytest.raises(AccessError, match=r"history.parquet: another run has written it meanwhile"):
        write_history(uri, [make_night(2)], before=[])
    write_history(uri, [make_night(1), make_night(2)], before=[make_night(1)])
    assert [night.date.day for night in read_history(uri)] == [1, 2]


def test_of_two_that_read_the_same_history_one_writes(store_uri, make_night, monkeypatch):
    uri = f"{store_uri}/history.parquet"

    def late(writer):
        def write(*arguments, **options):
            monkeypatch.undo()
            write_history(uri, [*before, make_night(8)], before=before)
            writer(*arguments, **options)

        return write

    before = []
    monkeypatch.setattr(history, "write_bytes_atomic", late(history.write_bytes_atomic))
    with pytest.raises(AccessError, match="another run has written it"):
        write_history(uri, [make_night(7)], before=before)
    before = [make_night(8)]
    monkeypatch.setattr(history, "replace_bytes", late(history.replace_bytes))
    with pytest.raises(AccessError, match="another run has written it"):
        write_history(uri, [*before, make_night(9)], before=before)
    assert [night.date.day for night in read_history(uri)] == [8, 8]


def test_a_failed_night_is_not_compared_with(make_night):
    nights = [make_night(1, status="failed"), make_night(2, status="worse"), make_night(3)]
    previous = [find(nights, each.date) for each in nights]
    assert previous == [None, nights[1], nights[2]]


def test_another_file_is_named(tmp_path):
    path = f"{tmp_path}/history.parquet"
    write_bytes_atomic(path, b"PAR1 and no more")
    with pytest.raises(ContentError, match=r"history.parquet: no history of nights"):
        read_history(path)

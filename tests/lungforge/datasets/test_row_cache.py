"""Rows in memory: the first that are asked for stay, and the rest is read again."""

import threading

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.row_cache import READERS, Reading, RowCache, readers_within, row_bytes
from lungforge.datasets.slices import RowIndex, index_rows
from tests.factories import slice_row


@pytest.fixture
def index(tmp_path) -> RowIndex:
    """Three parts of two rows, whose pixels are their positions."""
    writer = DatasetWriter(uri=str(tmp_path), kind=Kind.SLICES, config={})
    rows = [
        slice_row(series_uid=f"scan-{row // 2}", slice_index=row, image=np.full((4, 4), row, np.int16))
        for row in range(6)
    ]
    tables = [table_from_rows(Kind.SLICES, rows[first : first + 2]) for first in (0, 2, 4)]
    writer.commit([writer.write_part(f"{part}", table) for part, table in enumerate(tables)])
    return index_rows(Dataset.open(str(tmp_path)))


def _pixels(readings: dict[int, Reading]) -> dict[int, int]:
    return {row: int(reading.result()[row].image[0, 0]) for row, reading in readings.items()}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of each read."""
    read, done = RowIndex.read, list[list[int]]()
    monkeypatch.setattr(RowIndex, "read", lambda index, rows: done.append(list(rows)) or read(index, rows))
    return done


def test_the_first_row_groups_that_are_asked_for_are_kept(index: RowIndex, reads: list[list[int]]) -> None:
    cache = RowCache(index, budget=4 * row_bytes(index), readers=1)
    assert not cache.fits
    assert _pixels(cache.request(np.array([5, 0]))) == {5: 5, 0: 0}
    # There is room for no third group, so no more of it is read than is asked for.
    assert _pixels(cache.request(np.array([2]))) == {2: 2}
    assert _pixels(cache.request(np.array([4, 1, 2]))) == {4: 4, 1: 1, 2: 2}
    assert reads == [[4, 5], [0, 1], [2], [2]]
    cache.close()


def test_where_all_fit_they_are_read_in_the_order_given(index: RowIndex, reads: list[list[int]]) -> None:
    cache = RowCache(index, budget=6 * row_bytes(index), readers=1)
    assert cache.fits
    cache.keep(np.array([3, 5, 2, 0]))
    assert _pixels(cache.request(np.arange(6))) == {row: row for row in range(6)}
    assert reads == [[2, 3], [4, 5], [0, 1]]
    cache.close()


def test_what_is_not_being_read_when_it_ends_is_not_read(
    index: RowIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, reads = threading.Event(), threading.Event(), []

    def read(_: RowIndex, rows: list[int]) -> list[int]:
        reads.append(list(rows))
        begun.set()
        assert may_end.wait(60)
        return list(rows)

    monkeypatch.setattr(RowIndex, "read", read)
    cache = RowCache(index, budget=6 * row_bytes(index), readers=1)
    cache.keep(np.arange(6))
    assert begun.wait(60)
    closing = threading.Thread(target=cache.close)
    closing.start()
    while not cache._kept[2].cancelled():
        threading.Event().wait(0.001)
    may_end.set()
    closing.join(60)
    assert reads == [[0, 1]]


def test_reads_at_a_time_stay_within_the_budget(index: RowIndex) -> None:
    # Two rows of 4 x 4 px in a row group; the file, the table and the rows are there at a time.
    one_read = 3 * 2 * (4 * 4 * 3 + 2048)
    assert [readers_within(index, count * one_read) for count in (0, 1, 5, 100)] == [1, 1, 5, READERS]

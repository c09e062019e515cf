"""Rows that are read before they are needed, by several threads, and stay in memory as far as they may."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.datasets.slices import RowIndex, SliceRow

#: Reads at a time: on object storage each waits for a few round trips.
READERS: Final = 16
#: Bytes of a row beside its pixels: names, nodules, and what Python needs to hold them.
_ROW_OVERHEAD: Final = 2048
#: What a read takes while it is under way, compared with its rows: the file, the table, and the rows.
_READ_SHARE: Final = 3

#: Rows by their position in the index, as soon as they are read.
Reading = Future[dict[int, SliceRow]]


def row_bytes(index: RowIndex) -> int:
    """Bytes of a row in memory."""
    height, width = index.size
    return height * width * (2 + 1) + _ROW_OVERHEAD


def readers_within(index: RowIndex, budget: int) -> int:
    """How many row groups may be read at a time, so that what is under way stays within the budget."""
    largest = int(np.bincount(index.chunks).max()) * row_bytes(index)
    return max(1, min(READERS, budget // (_READ_SHARE * largest)))


class RowCache:
    """Reads rows ahead, and keeps those that are asked for first, until the budget is spent.

    Rows come in units: whole parts where all rows fit, so that each part is read once and never again; else
    row groups. A unit is kept or not; which ones depends on the order of the requests only. One thread asks.

    Args:
        index: Where the rows are.
        budget: Bytes of rows that may be kept.
        readers: Units that are read at a time.

    Attributes:
        fits: Whether all rows may be kept.
    """

    def __init__(self, index: RowIndex, budget: int, readers: int = READERS) -> None:
        self._index, self._row_bytes = index, row_bytes(index)
        self._room = budget
        self.fits = len(index) * self._row_bytes <= budget
        self._unit_of: NDArray[np.integer] = index.part if self.fits else index.chunks
        self._kept: dict[int, Reading] = {}
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="rows")

    def request(self, rows: NDArray[np.int64]) -> dict[int, Reading]:
        """Have rows read, unless they are in memory, in the order given as far as units allow; does not wait.

        Args:
            rows: Positions in the index, each once.

        Returns:
            For each row the reading that gives it, which raises ContentError where its part is missing or
            altered, and AccessError where it could not be read.
        """
        units = self._unit_of[rows]
        readings: dict[int, Reading] = {}
        for unit in _in_order(units):
            here = rows[units == unit]
            reading = self._keep(unit) or self._submit(here)
            readings |= dict.fromkeys(here.tolist(), reading)
        return readings

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Have the units of rows read in the order of the rows, and keep them while there is room."""
        for unit in _in_order(self._unit_of[rows]):
            self._keep(unit)

    def close(self) -> None:
        """End the threads; what is not being read yet is not read any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _keep(self, unit: int) -> Reading | None:
        """The rows of a unit that is kept, or is now; None where there is no room."""
        if unit not in self._kept:
            start, stop = np.searchsorted(self._unit_of, [unit, unit + 1]).tolist()
            size = (stop - start) * self._row_bytes
            if size > self._room:
                return None
            self._room -= size
            self._kept[unit] = self._submit(np.arange(start, stop))
        return self._kept[unit]

    def _submit(self, rows: NDArray[np.int64]) -> Reading:
        return self._pool.submit(lambda: dict(zip(rows.tolist(), self._index.read(rows), strict=True)))


def _in_order(values: NDArray[np.integer]) -> list[int]:
    """Each value once, in the order of their first places."""
    return list(dict.fromkeys(values.tolist()))

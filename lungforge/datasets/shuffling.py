"""The order in which training sees the rows: shuffled, streamed, and the same for any number of workers.

The global batch has B positions, and each is a lane with one stretch of the epoch's row groups, so a
worker reads what its positions need and nothing else. In an epoch the row groups are shuffled, laid
end to end, and divided into B stretches of equal length; along each stretch, rows are shuffled inside windows
of a few row groups. A worker holds one window a lane in memory, the next one of a lane that is near its end,
and whatever else may be kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from lungforge.datasets.row_cache import READERS, Reading, RowCache
from lungforge.datasets.slices import RowIndex, SliceRow
from lungforge.randomness import numpy_generator

#: Rows that a window has at least, if its lane has as many; at most a row group more.
WINDOW_ROWS = 64
#: Steps before a window is needed at which it begins to be read. At the turn of an epoch all lanes need
#: theirs at once: in so many steps of 0.1 s, sixteen readers do some 500 reads of 0.1 s.
STEPS_AHEAD: Final = 32


@dataclass(frozen=True)
class Epoch:
    """One pass over all rows.

    Attributes:
        rows: The row at each place of the epoch, int64 [N]: a permutation.
        windows: The window that each place belongs to, int64 [N].
    """

    rows: NDArray[np.int64]
    windows: NDArray[np.int64]


def shuffle_epoch(chunks: NDArray[np.int64], lanes: int, seed: int, epoch: int) -> Epoch:
    """Shuffle the rows of one epoch.

    Args:
        chunks: The row group of each row, counted from 0, ascending [N].
        lanes: Positions of the global batch; place p of the epoch is in lane ``p % lanes``.
        seed: Of the job.
        epoch: Which pass.
    """
    generator = numpy_generator(seed, "epoch", epoch)
    ranks = generator.permutation(int(chunks[-1]) + 1)
    sequence = np.argsort(ranks[chunks], kind="stable")
    rows, windows = np.empty(len(chunks), np.int64), np.empty(len(chunks), np.int64)
    first, window = 0, 0
    for lane in range(min(lanes, len(chunks))):
        stretch = sequence[first : first + len(range(lane, len(chunks), lanes))]
        first += len(stretch)
        for start, stop in _cut_windows(chunks[stretch]):
            places = lane + lanes * np.arange(start, stop)
            rows[places] = generator.permutation(stretch[start:stop])
            windows[places] = window
            window += 1
    return Epoch(rows, windows)


def _cut_windows(chunks: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut a lane where a row group ends and ``WINDOW_ROWS`` are reached, so that each is read once."""
    start = 0
    for end in [*(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(chunks)]:
        if end - start >= WINDOW_ROWS or end == len(chunks):
            yield start, end
            start = end


class RowStream:
    """The rows that a worker's positions of the global batch take, step by step.

    Any step may be asked for, so training resumes anywhere; steps in order are quick. What the rows are does
    not depend on what is kept or read ahead.

    Args:
        index: All rows of the training set.
        batch: Positions of the global batch.
        positions: Those of this worker.
        seed: Of the job.
        budget: Bytes of rows that may be kept beside those of the windows. Where all fit, they are read once,
            in the order of the first epoch.
        stop: No step from this one on will be asked for, and nothing is read for it.
        ahead: Steps before a window is needed at which it begins to be read.
        readers: Reads at a time.
    """

    def __init__(
        self,
        index: RowIndex,
        *,
        batch: int,
        positions: range,
        seed: int,
        budget: int = 0,
        stop: int | None = None,
        ahead: int = STEPS_AHEAD,
        readers: int = READERS,
    ) -> None:
        self.index, self.batch, self.positions, self.seed, self.ahead = index, batch, positions, seed, ahead
        self._chunks = index.chunks
        self._epochs: dict[int, Epoch] = {}
        self._cache = RowCache(index, budget, readers)
        self._stop = stop
        self._begun = False
        #: The rows in memory or on their way, by epoch and window.
        self.windows: dict[tuple[int, int], dict[int, Reading]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._cache.close()

    def samples(self, step: int) -> list[int]:
        """The global indices of the samples that this worker sees in a step: ``step * batch + position``."""
        return self._samples(step, step + 1).tolist()

    def rows(self, step: int) -> list[SliceRow]:
        """The rows of a step, in the order of the positions.

        Raises:
            ContentError: A part is missing or altered.
            AccessError: A part could not be read.
        """
        if not self._begun and self._cache.fits:
            self._read_all(step)
        self._begun = True
        epochs, places = np.divmod(self._samples(step, step + self.ahead + 1), len(self.index))
        self._epochs = {epoch: self._epoch(epoch) for epoch in np.unique(epochs).tolist()}
        windows = np.empty_like(places)
        for epoch, order in self._epochs.items():
            here = epochs == epoch
            windows[here] = order.windows[places[here]]
        keys = list(zip(epochs.tolist(), windows.tolist(), strict=True))
        # One window a lane, and that which comes next if it comes soon: the rest has been seen.
        self.windows = {key: self.windows.get(key) or self._request(*key) for key in dict.fromkeys(keys)}
        rows = []
        for key, place in zip(keys[: len(self.positions)], places.tolist(), strict=False):
            row = int(self._epochs[key[0]].rows[place])
            rows.append(self.windows[key][row].result()[row])
        return rows

    def _request(self, epoch: int, window: int) -> dict[int, Reading]:
        order = self._epochs[epoch]
        return self._cache.request(order.rows[order.windows == window])

    def _read_all(self, step: int) -> None:
        """Have the rest of the epoch read in the order in which this worker needs it, and then all else."""
        epoch = step * self.batch // len(self.index)
        turn = -(-(epoch + 1) * len(self.index) // self.batch)
        epochs, places = np.divmod(self._samples(step, turn), len(self.index))
        self._cache.keep(self._epoch(epoch).rows[places[epochs == epoch]])
        if self._stop is None or self._stop > turn:
            self._cache.keep(np.arange(len(self.index)))

    def _samples(self, start: int, stop: int) -> NDArray[np.int64]:
        """The global indices of this worker's samples, step by step, in steps that come before the end."""
        stop = stop if self._stop is None else min(stop, self._stop)
        return np.add.outer(np.arange(start, stop) * self.batch, np.array(self.positions)).ravel()

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._epochs:
            self._epochs[epoch] = shuffle_epoch(self._chunks, self.batch, self.seed, epoch)
        return self._epochs[epoch]

"""The order in which training sees the rows: shuffled, streamed, and the same for any number of workers.

The global batch has B positions, and each is a lane with one stretch of the epoch's row groups, so a
worker reads what its positions need and nothing else. In an epoch the row groups are shuffled, laid
end to end, and divided into B stretches of equal length; along each stretch, rows are shuffled inside windows
of a few row groups. A worker holds one window a lane in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.datasets.slices import RowIndex, SliceRow
from lungforge.randomness import numpy_generator

#: Rows that a window has at least, if its lane has as many; at most a row group more.
WINDOW_ROWS = 64


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

    Any step may be asked for, so training resumes anywhere; steps in order are quick.

    Args:
        index: All rows of the training set.
        batch: Positions of the global batch.
        positions: Those of this worker.
        seed: Of the job.
    """

    def __init__(self, index: RowIndex, *, batch: int, positions: range, seed: int) -> None:
        self.index, self.batch, self.positions, self.seed = index, batch, positions, seed
        self._chunks = index.chunks
        self._epochs: dict[int, Epoch] = {}
        #: The rows in memory: epoch and window to the rows by their positions in the index.
        self.windows: dict[tuple[int, int], dict[int, SliceRow]] = {}

    def samples(self, step: int) -> list[int]:
        """The global indices of the samples that this worker sees in a step: ``step * batch + position``."""
        return [step * self.batch + position for position in self.positions]

    def rows(self, step: int) -> list[SliceRow]:
        """The rows of a step, in the order of the positions."""
        places = [divmod(sample, len(self.index)) for sample in self.samples(step)]
        needed = {(epoch, int(self._epoch(epoch).windows[place])) for epoch, place in places}
        # One window a lane, and at the turn of an epoch those of both: the rest has been seen.
        self.windows = {key: rows for key, rows in self.windows.items() if key in needed}
        self._epochs = {
            epoch: order for epoch, order in self._epochs.items() if epoch in {key[0] for key in needed}
        }
        for key in sorted(needed - self.windows.keys()):
            order = self._epochs[key[0]]
            window = np.sort(order.rows[order.windows == key[1]])
            self.windows[key] = dict(zip(window.tolist(), self.index.read(window), strict=True))
        rows = []
        for epoch, place in places:
            order = self._epochs[epoch]
            rows.append(self.windows[epoch, int(order.windows[place])][int(order.rows[place])])
        return rows

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._epochs:
            self._epochs[epoch] = shuffle_epoch(self._chunks, self.batch, self.seed, epoch)
        return self._epochs[epoch]

"""The order of the rows: every row once per epoch for any count of workers, and little read twice."""

import concurrent.futures
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.datasets import Dataset, DatasetWriter, Kind, Part, table_from_rows
from lungforge.datasets.shuffling import WINDOW_ROWS, RowStream, shuffle_epoch
from lungforge.datasets.slices import RowIndex, index_rows
from lungforge.errors import ContentError
from tests.factories import slice_row

group_sizes = st.lists(st.integers(1, 128), min_size=1, max_size=30)


@given(sizes=group_sizes, lanes=st.integers(1, 40), seed=st.integers(0, 9), epoch=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_a_permutation_in_windows_of_one_lane(
    sizes: list[int], lanes: int, seed: int, epoch: int
) -> None:
    chunks = np.repeat(np.arange(len(sizes)), sizes)
    order = shuffle_epoch(chunks, lanes, seed, epoch)
    assert np.array_equal(np.sort(order.rows), np.arange(len(chunks)))
    reads = 0
    for window in np.unique(order.windows):
        places = np.flatnonzero(order.windows == window)
        # One lane, without a gap: a worker holds a window until it has used all of it.
        assert len(set(places % lanes)) == 1
        assert np.all(np.diff(places) == lanes)
        assert len(places) < WINDOW_ROWS + 128
        reads += len(np.unique(chunks[order.rows[places]]))
    # Each cut between two lanes can split one row group; nothing else is read twice.
    assert reads <= len(sizes) + lanes - 1


def test_epochs_and_seeds_differ() -> None:
    chunks = np.repeat(np.arange(20), 5)
    orders = [shuffle_epoch(chunks, 4, seed, epoch).rows for seed in (0, 1) for epoch in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4
    assert np.array_equal(orders[0], shuffle_epoch(chunks, 4, 0, 0).rows)


def _index(folder: str, rows_of_parts: list[int]) -> RowIndex:
    writer = DatasetWriter(uri=folder, kind=Kind.SLICES, config={})
    parts = []
    for part, count in enumerate(rows_of_parts):
        rows = [
            slice_row(
                series_uid=f"scan-{part}",
                subset=part % 10,
                slice_index=index,
                image=np.full((4, 4), 1000 * part + index, np.int16),
            )
            for index in range(count)
        ]
        parts.append(writer.write_part(f"{part}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)
    return index_rows(Dataset.open(folder))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> RowIndex:
    return _index(str(tmp_path_factory.mktemp("slices")), [7, 150, 1, 30, 12])


def _seen(index: RowIndex, *, workers: int, batch: int, steps: range, **memory: int) -> list[list[int]]:
    """The value of the first pixel of every row, by step, in the order of the global batch."""
    share = batch // workers
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(
                RowStream(
                    index, batch=batch, positions=range(rank * share, (rank + 1) * share), seed=3, **memory
                )
            )
            for rank in range(workers)
        ]
        return [[int(row.image[0, 0]) for stream in streams for row in stream.rows(step)] for step in steps]


def _counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which row groups of which parts are read, as they are."""
    reads: list[tuple[str, int]] = []
    read_groups = Dataset.read_groups

    def count(dataset: Dataset, part: Part, groups: Sequence[int]) -> Iterator[pa.Table]:
        reads.extend((part.path, group) for group in groups)
        return read_groups(dataset, part, groups)

    monkeypatch.setattr(Dataset, "read_groups", count)
    return reads


def test_every_row_is_seen_once_an_epoch_over_all_workers(index: RowIndex) -> None:
    steps = range(3 * 200 // 8)
    seen = _seen(index, workers=4, batch=8, steps=steps)
    flat = [value for step in seen for value in step]
    everything = sorted(
        1000 * part + row for part, count in enumerate([7, 150, 1, 30, 12]) for row in range(count)
    )
    assert [sorted(flat[epoch * 200 : (epoch + 1) * 200]) for epoch in range(3)] == [everything] * 3
    assert flat[:200] != flat[200:400]


@pytest.mark.parametrize("workers", [2, 4])
def test_the_order_is_that_of_one_worker(index: RowIndex, workers: int) -> None:
    # A batch that does not divide the epoch, so that the lanes move at its turn.
    assert _seen(index, workers=workers, batch=12, steps=range(40)) == _seen(
        index, workers=1, batch=12, steps=range(40)
    )


def test_a_stream_begins_anywhere(index: RowIndex) -> None:
    whole = _seen(index, workers=1, batch=12, steps=range(40))
    assert _seen(index, workers=1, batch=12, steps=range(17, 40)) == whole[17:]


def test_a_batch_may_be_larger_than_the_epoch(tmp_path) -> None:
    small = _index(str(tmp_path / "small"), [2, 1])
    flat = [value for step in _seen(small, workers=2, batch=8, steps=range(3)) for value in step]
    assert [sorted(flat[start : start + 3]) for start in range(0, 24, 3)] == [[0, 1, 1000]] * 8


def test_row_groups_are_read_about_once_an_epoch(index: RowIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = _counted_reads(monkeypatch)
    # Without reading ahead, which would begin the next epoch.
    _seen(index, workers=1, batch=4, steps=range(50), ahead=0)
    # Six row groups (150 rows are two), and three cuts between the four lanes.
    assert 6 <= len(reads) <= 9


def test_a_stream_holds_one_window_a_lane(index: RowIndex) -> None:
    with RowStream(index, batch=4, positions=range(4), seed=0, ahead=0) as stream:
        for step in range(120):
            stream.rows(step)
            assert len(stream.windows) <= 5  # a lane more at the turn of an epoch


#: Bytes of the rows of the index, as the cache counts them.
_ALL = 200 * (4 * 4 * 3 + 2048)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("budget", [0, _ALL // 2, _ALL], ids=["nothing", "half", "all"])
@pytest.mark.parametrize("ahead", [0, 20])
def test_the_rows_do_not_depend_on_memory_and_threads(
    index: RowIndex, workers: int, budget: int, ahead: int
) -> None:
    expected = [order[start : start + 12] for order, start in _plain_order(index, 12, range(40))]
    seen = _seen(index, workers=workers, batch=12, steps=range(40), budget=budget, ahead=ahead, readers=3)
    assert seen == expected


def _plain_order(index: RowIndex, batch: int, steps: range) -> Iterator[tuple[list[int], int]]:
    """The first pixels of all rows in the order of training, epochs in a row, and where each step begins."""
    pixels = np.array([row.image[0, 0] for row in index.read(range(len(index)))])
    epochs = -(-steps.stop * batch // len(index))
    orders = [shuffle_epoch(index.chunks, batch, 3, epoch).rows for epoch in range(epochs)]
    flat = pixels[np.concatenate(orders)].tolist()
    yield from ((flat, step * batch) for step in steps)


def test_where_all_rows_fit_each_part_is_read_once(index: RowIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = _counted_reads(monkeypatch)
    _seen(index, workers=1, batch=4, steps=range(300), budget=_ALL)
    everything = [(part.path, group) for part in index.parts for group in range(1 + (part.rows > 128))]
    assert sorted(reads) == sorted(everything)
    # Each of several workers reads all of them, for it comes to need them, and waits for none twice.
    reads.clear()
    _seen(index, workers=2, batch=4, steps=range(300), budget=_ALL)
    assert sorted(reads) == sorted(2 * everything)


def test_what_is_kept_is_not_read_again(index: RowIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = _counted_reads(monkeypatch)
    # Room for the 128 rows of the largest row group and no more, whichever comes first.
    epochs = 6
    _seen(index, workers=1, batch=4, steps=range(50 * epochs), budget=128 * (4 * 4 * 3 + 2048), ahead=0)
    times = Counter(reads)
    kept = [place for place, count in times.items() if count == 1]
    assert kept
    # Each of the others is read in every epoch, and more often where lanes share it.
    assert all(epochs <= count <= 4 * epochs for place, count in times.items() if place not in kept)


@pytest.mark.parametrize("budget", [0, _ALL], ids=["nothing kept", "all kept"])
def test_windows_are_asked_for_before_they_are_needed(index: RowIndex, budget: int) -> None:
    with RowStream(index, batch=4, positions=range(4), seed=3, budget=budget, ahead=20) as stream:
        orders = [shuffle_epoch(index.chunks, 4, 3, epoch) for epoch in range(2)]
        for step in range(50):
            stream.rows(step)
            # The windows of the next 20 steps have been asked for, and no others.
            soon = [divmod(place, 200) for place in range(4 * step, 4 * (step + 21))]
            assert {(epoch, orders[epoch].windows[place]) for epoch, place in soon} == set(stream.windows)


def test_nothing_is_read_for_steps_that_will_not_come(
    index: RowIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _counted_reads(monkeypatch)
    # The first lane of four, whose 50 rows are one window.
    wanted = shuffle_epoch(index.chunks, 4, 3, 0).rows[::4]
    with RowStream(index, batch=4, positions=range(1), seed=3, budget=_ALL, stop=10) as stream:
        for step in range(10):
            stream.rows(step)
    lane = {index.parts[part].path for part in index.part[wanted]}
    assert {path for path, _ in reads} == lane
    assert len(lane) < len(index.parts)
    reads.clear()
    # In a second epoch, any row may be needed.
    with RowStream(index, batch=4, positions=range(1), seed=3, budget=_ALL, stop=51) as stream:
        for step in range(51):
            stream.rows(step)
        concurrent.futures.wait(stream._cache._kept.values())
    assert {path for path, _ in reads} == {part.path for part in index.parts}


def test_a_part_that_is_altered_is_an_error_at_its_step_only(tmp_path) -> None:
    broken = _index(str(tmp_path / "slices"), [4, 4, 4, 4])
    first = shuffle_epoch(broken.chunks, 2, 3, 0).rows[:2].tolist()
    # A part that the first step does not need.
    damaged = next(part for place, part in enumerate(broken.parts) if place not in broken.part[first])
    path = tmp_path / "slices" / damaged.path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with RowStream(broken, batch=2, positions=range(2), seed=3, budget=_ALL) as stream:
        stream.rows(0)
        with pytest.raises(ContentError, match="altered since it was written"):
            _ = [stream.rows(step) for step in range(1, 8)]

"""Training on a store at the end of a long line: what is kept is never asked for again, the rest is ahead."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import slow_store
from benchmarks.slow_line import SlowLine, slow_line
from lungforge.datasets.memory_budget import rows_budget
from lungforge.datasets.shuffling import RowStream
from lungforge.datasets.slices import RowIndex, index_rows
from lungforge.models.learner import SampleNeeds
from lungforge.storage import read_bytes, write_bytes_atomic
from services.train import loader
from services.train.batches import make_batch
from services.train.presets import tiny
from services.train.run import TrainingRun, model_writer

pytestmark = pytest.mark.s3

DELAY = 0.03
SIDE = 16
NEEDS = SampleNeeds(noise_shape=(1, SIDE, SIDE))


@pytest.fixture
def line(s3_server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowLine]:
    """The store is 30 ms away, and every request takes 60."""
    with slow_line(s3_server.endpoint, DELAY) as slow:
        monkeypatch.setenv("AWS_ENDPOINT_URL", slow.endpoint)
        yield slow


@pytest.fixture
def index(line: SlowLine, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> RowIndex:
    """Twelve parts of two rows."""
    monkeypatch.setattr(slow_store, "phantom_maps", lambda side: np.ones((2, side, side), np.uint8))
    return index_rows(slow_store.write_slices(s3_uri, count=24, rows=2, side=SIDE))


def _run(index: RowIndex) -> TrainingRun:
    config = tiny(index.dataset.uri, f"{index.dataset.uri}-model")
    return TrainingRun(config, None, index, model_writer(config, index.dataset), None)


def test_the_line_delays_each_request_and_its_answer(line: SlowLine, s3_uri: str) -> None:
    write_bytes_atomic(s3_uri, b"content")
    before, started = line.requests, time.perf_counter()
    assert read_bytes(s3_uri) == b"content"
    assert time.perf_counter() - started >= 2 * DELAY * (line.requests - before) > 0


@pytest.mark.parametrize(("rank", "workers"), [(0, 1), (1, 2)])
def test_training_asks_the_store_for_each_part_once(
    line: SlowLine, index: RowIndex, rank: int, workers: int
) -> None:
    assert rows_budget(workers) > 24 * 2**12, "all rows fit"
    run, cpu = _run(index), torch.device("cpu")
    # Three steps an epoch.
    assert run.config.batch == 8
    before = line.requests
    with loader.loading(
        run, range(12), NEEDS, cpu, rank=rank, workers=workers, local_workers=workers
    ) as batches:
        seen = [next(batches) for _ in range(3)]
        asked = line.requests - before
        seen += batches
    if workers == 1:
        # The first epoch has needed all of them. Of two workers, each comes to need all in the end.
        assert line.requests - before == asked
    # For each of the twelve parts: what the object is, its end, and its rows; fewer for parts this small.
    assert 12 <= line.requests - before <= 3 * 12
    share = range(8 // workers * rank, 8 // workers * (rank + 1))
    with RowStream(index, batch=8, positions=share, seed=run.config.seed) as stream:
        for step, batch in enumerate(seen):
            plain = make_batch(stream.rows(step), stream.samples(step), run.config, NEEDS)
            assert all(map(torch.equal, vars(batch).values(), vars(plain).values()))


@pytest.mark.parametrize("ahead", [1, 3])
def test_what_does_not_fit_is_asked_for_steps_before_it_is_needed(
    line: SlowLine, index: RowIndex, ahead: int
) -> None:
    half = 12 * (SIDE * SIDE * 3 + 2048)
    with RowStream(index, batch=8, positions=range(8), seed=0, budget=half, ahead=ahead) as stream:
        for step in range(6):
            stream.rows(step)
        for readings in stream.windows.values():
            for reading in readings.values():
                reading.result()
        before = line.requests
        # All that the next steps need has come; only what is further ahead is asked for.
        stream.ahead = 0
        for step in range(6, 6 + ahead):
            stream.rows(step)
        assert line.requests == before
        # As many steps later something else is needed, or the test would show nothing.
        for step in range(6 + ahead, 12):
            stream.rows(step)
        assert line.requests > before


def test_the_benchmark_compares_the_ways(
    s3_server,
    s3_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(slow_store, "DELAY_SECONDS", 0.005)
    monkeypatch.setattr(slow_store, "phantom_maps", lambda side: np.ones((2, side, side), np.uint8))
    options = ["--slices", "16", "--size", "16", "--epochs", "2", "--step", "0.01", "--json"]
    assert slow_store.main(["--store", s3_uri, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    asked = [each["first_requests"] + each["later_requests"] for each in found]
    # Two epochs are read where nothing is kept, and one where all is.
    assert min(asked[:2]) >= 2 * asked[3] >= 2 * 8
    assert found[3]["later_requests"] == 0
    assert all(0 <= each["first_share"] < 1 for each in found)

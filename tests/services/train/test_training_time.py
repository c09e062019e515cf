"""How long a training took, over all the runs that it took."""

import contextlib
from pathlib import Path

import pytest

from services.common.training_time import read_training_seconds
from services.train import monitoring
from services.train.monitoring import Monitor


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(monitoring.time, "monotonic", clock)
    return clock


def test_a_resumed_training_adds_to_what_led_to_its_checkpoint(tmp_path: Path, clock: _Clock) -> None:
    uri = str(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), Monitor(uri, 0) as monitor:
        clock.now += 30
        monitor.keep_time()  # with a checkpoint
        clock.now += 500  # of steps that are lost
        raise KeyboardInterrupt
    assert read_training_seconds(uri) == 30
    with Monitor(uri, 5):
        clock.now += 12
    assert read_training_seconds(uri) == 42
    with Monitor(uri, 0):  # another training, from the start
        clock.now += 7
    assert read_training_seconds(uri) == 7


def test_a_store_that_refuses_it_is_no_matter(
    tmp_path: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str, seconds: float) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(monitoring, "write_training_seconds", refuse)
    with Monitor(str(tmp_path), 0):
        clock.now += 1
    assert read_training_seconds(str(tmp_path)) is None

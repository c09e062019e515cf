"""What is counted and when; that Prometheus gets to see it, tests/cluster/test_monitoring_scrape.py shows."""

import subprocess
import sys
import threading
import time

import pytest

from lungforge.datasets import Part
from services.common import telemetry
from services.preprocess.volume import VolumeOutcome


class Sum:
    """Stands in for a counter of Ray, whose value only a scrape gives."""

    def __init__(self) -> None:
        self.counted: list[tuple[float, dict[str, str]]] = []

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0, "Ray refuses to count nothing"
        self.counted.append((value, tags))


@pytest.fixture
def stalls(monkeypatch: pytest.MonkeyPatch) -> Sum:
    counter = Sum()
    monkeypatch.setattr(telemetry, "STALLS", counter)
    return counter


def test_waiting_is_a_stall(stalls: Sum) -> None:
    with telemetry.stall("train"):
        threading.Event().wait(0.3)
    ((seconds, tags),) = stalls.counted
    assert seconds >= 0.29
    assert tags == {"service": "train"}


def test_computing_is_not_a_stall(stalls: Sum) -> None:
    started, computed = time.perf_counter(), time.thread_time()
    with telemetry.stall("preprocess"):
        while time.thread_time() - computed < 0.3:
            pass
    # On a machine that is busy the thread waited for a core meanwhile; that is all that may be counted.
    counted = sum(seconds for seconds, _ in stalls.counted)
    assert counted <= time.perf_counter() - started - 0.3 + 0.01


def test_a_failure_after_waiting_is_counted_and_raised(stalls: Sum) -> None:
    @telemetry.stall("preprocess")
    def read() -> None:
        threading.Event().wait(0.1)
        raise OSError("the store is away")

    with pytest.raises(OSError, match="the store is away"):
        read()
    assert len(stalls.counted) == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (VolumeOutcome("u", "1.2", 0, rejected="no spacing"), "rejected"),
        (VolumeOutcome("u", "1.2", 0, slices=Part("p", 1, 1, "")), "done"),
        (VolumeOutcome("u", "1.2", 0, slices=Part("p", 1, 1, ""), resumed=True), "resumed"),
        (VolumeOutcome("u", "1.2", 0, crops=Part("p", 1, 1, ""), resumed=True), "resumed"),
        # Nothing was to be taken of it, so nothing of it was there.
        (VolumeOutcome("u", "1.2", 0, resumed=True), "done"),
    ],
)
def test_a_volume_has_one_outcome(outcome: VolumeOutcome, state: str) -> None:
    assert outcome.state == state


def test_without_ray_nothing_is_counted_and_nothing_fails() -> None:
    program = """
from services.common import telemetry
telemetry.VOLUMES.inc(1, {"outcome": "done"})
telemetry.STEPS.inc()
telemetry.PARTS_LEFT.set(3)
telemetry.retry("sample")
with telemetry.stall("train"):
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

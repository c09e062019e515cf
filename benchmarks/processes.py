"""Processor time and memory of a benchmark's driver and its Ray workers, on Linux."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

#: Seconds between looks at the memory or the processor time.
_SAMPLE_S = 0.05


def cpu_seconds() -> float:
    """Processor time of this process and its descendants."""
    return sum(map(_cpu_seconds_of, descendants(os.getpid())))


def _cpu_seconds_of(pid: int) -> float:
    with contextlib.suppress(OSError):
        # The fields after the name: user and system time are the 12th and the 13th.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def proportional_bytes(pid: int) -> int:
    """Proportional set size of a process (Linux's Pss)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def descendants(root: int) -> Iterator[int]:
    """The process and its descendants."""
    yield root
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{root}/task").iterdir():
            for child in (task / "children").read_text(encoding="utf-8").split():
                yield from descendants(int(child))


def is_ours(pid: int) -> bool:
    """Whether a process is the driver or a worker, not a Ray daemon."""
    with contextlib.suppress(OSError):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return pid == os.getpid() or title.startswith(b"ray::")
    return False


@contextlib.contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Sample the memory of driver and workers; the only entry of the list is the peak."""
    peak = [0]

    def sample() -> None:
        peak[0] = max(
            peak[0], sum(proportional_bytes(pid) for pid in descendants(os.getpid()) if is_ours(pid))
        )

    with _sampled(sample):
        yield peak


@contextlib.contextmanager
def processor_time() -> Iterator[dict[int, float]]:
    """Sample the processor time of driver and workers: seconds by process, of those that have ended, too."""
    started = _cpu_seconds_of(os.getpid())
    seconds: dict[int, float] = {}

    def sample() -> None:
        for pid in descendants(os.getpid()):
            if is_ours(pid):
                before = started if pid == os.getpid() else 0.0
                seconds[pid] = max(seconds.get(pid, 0.0), _cpu_seconds_of(pid) - before)

    with _sampled(sample):
        yield seconds
    sample()


@contextlib.contextmanager
def _sampled(sample: Callable[[], None]) -> Iterator[None]:
    """Call a function every so often meanwhile."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(_SAMPLE_S):
            sample()

    sampler = threading.Thread(target=run)
    sampler.start()
    try:
        yield
    finally:
        stop.set()
        sampler.join()

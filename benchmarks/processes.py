"""Processor time and memory of a benchmark's driver and its Ray workers, on Linux."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

#: Seconds between looks at the memory.
_SAMPLE_S = 0.05


def cpu_seconds() -> float:
    """Processor time of this process and its descendants."""
    ticks = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            # The fields after the name: user and system time are the 12th and the 13th.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


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
    peak, stop = [0], threading.Event()

    def sample() -> None:
        while not stop.wait(_SAMPLE_S):
            peak[0] = max(
                peak[0], sum(proportional_bytes(pid) for pid in descendants(os.getpid()) if is_ours(pid))
            )

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        sampler.join()

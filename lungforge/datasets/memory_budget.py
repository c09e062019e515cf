"""How much memory rows may be kept in: a share of what is free where the process may use it."""

from pathlib import Path
from typing import Final

#: The share of the free memory that rows may take, over all processes of a host; the rest is for networks,
#: for the rows that are being read, and for Ray.
SHARE: Final = 0.25
#: Taken for free where nothing says how much is.
_UNKNOWN: Final = 4 * 2**30

#: Where Linux says what is free, and below which folder the groups of version 2 and 1 are, with the names of
#: their files: the limit, what is used, and the line of memory.stat that counts what can be given back.
_MEMINFO: Final = Path("/proc/meminfo")
_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_VERSION_2: Final = (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file")
_VERSION_1: Final = (
    Path("/sys/fs/cgroup/memory"),
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)


def rows_budget(processes: int) -> int:
    """Bytes of rows that a process may keep.

    Args:
        processes: How many of them are on this host.
    """
    return int(SHARE * free_bytes() / processes)


def free_bytes() -> int:
    """Memory that this process can still get: of the host, and within the limits of its control groups.

    Containers, Kubernetes and Slurm limit memory by control groups, of version 2 or 1; the sources are the
    kernel's ``cgroup-v2`` and ``cgroup-v1/memory`` documents.
    """
    return min([*_of_host(), *_of_groups()], default=_UNKNOWN)


def _of_host() -> list[int]:
    lines = _read(_MEMINFO).splitlines()
    return [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]


def _of_groups() -> list[int]:
    """What is left in each control group that this process is in."""
    left = []
    for line in _read(_OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, limit, used, reclaimable = _VERSION_1 if controllers else _VERSION_2
        own = root / path.lstrip("/")
        # Within a container, the path may be that of the host, and the limit be at the root.
        for folder in {own, *(parent for parent in own.parents if parent.is_relative_to(root)), root}:
            most, taken = _read(folder / limit).strip(), _read(folder / used).strip()
            if most.isdigit() and taken.isdigit():
                counted = dict(entry.split() for entry in _read(folder / "memory.stat").splitlines())
                left.append(max(0, int(most) - int(taken) + int(counted.get(reclaimable, 0))))
    return left


def _read(path: Path) -> str:
    """What a file of the kernel says; nothing where there is none."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""

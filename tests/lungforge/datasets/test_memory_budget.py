"""What memory is free: the least that the host and the control groups leave."""

from pathlib import Path

import pytest

from lungforge.datasets import memory_budget
from lungforge.datasets.memory_budget import SHARE, free_bytes, rows_budget

GIB = 2**30


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the kernel's, with 16 GiB free on the host and no control groups."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {20 * 2**20} kB\nMemAvailable: {16 * 2**20} kB\n")
    monkeypatch.setattr(memory_budget, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory_budget, "_OWN_GROUPS", tmp_path / "own")
    for name, folder in (("_VERSION_2", "two"), ("_VERSION_1", "one")):
        monkeypatch.setattr(memory_budget, name, (tmp_path / folder, *getattr(memory_budget, name)[1:]))
    return tmp_path


def _group(folder: Path, limit: str, used: int, cached: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}[
        version
    ]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    inactive = {2: "inactive_file", 1: "total_inactive_file"}[version]
    (folder / "memory.stat").write_text(f"anon 7\n{inactive} {cached}\nactive_file 3\n")


def test_the_processes_of_a_host_share_a_part_of_what_is_free(kernel: Path) -> None:
    assert free_bytes() == 16 * GIB
    assert rows_budget(1) == SHARE * 16 * GIB
    assert rows_budget(8) == SHARE * 2 * GIB


def test_a_container_sees_its_limit_at_the_root(kernel: Path) -> None:
    (kernel / "own").write_text("0::/\n")
    _group(kernel / "two", str(8 * GIB), 5 * GIB, 1 * GIB)
    assert free_bytes() == 4 * GIB
    # The path of the host, which is not there within the container.
    (kernel / "own").write_text("0::/kubepods/pod1/container\n")
    assert free_bytes() == 4 * GIB
    _group(kernel / "two", "max", 5 * GIB, 1 * GIB)
    assert free_bytes() == 16 * GIB


def test_the_tightest_of_nested_groups_counts(kernel: Path) -> None:
    (kernel / "own").write_text("0::/slurm/job/task\n")
    _group(kernel / "two" / "slurm" / "job" / "task", str(12 * GIB), 1 * GIB, 0)
    _group(kernel / "two" / "slurm" / "job", str(6 * GIB), 3 * GIB, 0)
    assert free_bytes() == 3 * GIB
    _group(kernel / "two" / "slurm", str(6 * GIB), 7 * GIB, 0)
    assert free_bytes() == 0


def test_version_1_of_control_groups(kernel: Path) -> None:
    (kernel / "own").write_text("5:cpu:/elsewhere\n4:cpuset,memory:/box\n0::/\n")
    _group(kernel / "one" / "box", str(3 * GIB), 2 * GIB, GIB // 2, version=1)
    assert free_bytes() == 3 * GIB // 2
    # Without a limit, this is what the kernel states.
    _group(kernel / "one" / "box", "9223372036854771712", 2 * GIB, 0, version=1)
    assert free_bytes() == 16 * GIB


def test_where_nothing_is_said_some_is_assumed(kernel: Path) -> None:
    (kernel / "meminfo").unlink()
    assert free_bytes() == memory_budget._UNKNOWN


def test_this_machine_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < free_bytes() < 2**50

"""The folders of runs: what killed runs of this user have left is removed, and nothing else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.ray_environment import keep_ray_private, remove_leftovers

PROGRAM = """
import os, sys
from services.common.ray_environment import keep_ray_private
keep_ray_private()
print(os.environ["RAY_TMPDIR"], flush=True)
sys.stdin.readline()
"""


def _start(base: Path, **environment: str) -> tuple[subprocess.Popen[str], Path]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=plain | {"TMPDIR": str(base)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for temporary files whose path is as short as Ray's sockets need it."""
    import tempfile

    return Path(tempfile.mkdtemp(dir="/tmp", prefix="lf"))


def test_the_next_run_removes_what_a_killed_one_left_and_no_living_one(base: Path) -> None:
    killed, left = _start(base)
    living, kept = _start(base)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (left / "ray" / "session_1").mkdir(parents=True)
    assert (left / "ray-token").is_file()
    # What another program made, a link to elsewhere, and a folder that is not ours to judge.
    (base / "lungforge-results").mkdir()
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (base / "lungforge-link").symlink_to(elsewhere)
    third, own = _start(base)
    assert not left.exists()
    assert kept.is_dir()
    for process in (living, third):
        _end(process)
    # A run that ends takes its own folder away.
    assert not kept.exists()
    assert not own.exists()
    assert sorted(path.name for path in base.iterdir()) == [
        "elsewhere",
        "lungforge-link",
        "lungforge-results",
    ]


def test_a_folder_of_another_user_is_left_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base / "lungforge-abc"
    folder.mkdir()
    (folder / "lock").touch()
    monkeypatch.setattr("os.getuid", lambda: folder.stat().st_uid + 1)
    remove_leftovers(str(base))
    assert folder.is_dir()
    monkeypatch.undo()
    remove_leftovers(str(base))
    assert not folder.exists()


def test_where_paths_would_be_too_long_for_sockets_ray_keeps_its_own_place(base: Path) -> None:
    long = base / ("x" * 20)
    long.mkdir()
    process, place = _start(long)
    assert place == long
    assert len(list(long.glob("lungforge-*/ray-token"))) == 1
    _end(process)
    assert not list(long.iterdir())


def test_a_cluster_that_is_joined_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    keep_ray_private()
    assert "RAY_TMPDIR" not in os.environ

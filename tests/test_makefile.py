"""``make install`` says what is wrong with a Python before it downloads anything."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MADE_OF = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", ".ci")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that `make install` reads, without an environment."""
    for name in MADE_OF:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return tmp_path


def _make(clone: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "install", f"PYTHON={python}"],
        cwd=clone,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_a_python_that_is_not_there_is_said(clone: Path) -> None:
    done = _make(clone, "no-such-python")
    assert done.returncode == 2
    assert "LungForge needs Python 3.11 (make install PYTHON=/path/to/python3.11)" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_python_that_the_check_refuses_is_asked_for_nothing_else(clone: Path) -> None:
    python = clone / "python"
    python.write_text('#!/bin/sh\necho "$@" >> asked\necho "not this one" >&2\nexit 2\n', "utf-8")
    python.chmod(0o755)
    done = _make(clone, str(python))
    assert done.returncode == 2
    assert "not this one" in done.stderr
    assert (clone / "asked").read_text("utf-8") == ".ci/check_python.py\n"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("3.11.14", "Linux", "x86_64"), ""),
        (("3.10.13", "Linux", "x86_64"), "the locks are for Python 3.11, and this is 3.10.13"),
        (("3.12.1", "Linux", "x86_64"), "without locks, on Python 3.11 to 3.13: pip install '.[all]'"),
        (("3.11.9", "Linux", "aarch64"), "the locks are for Linux on x86_64, and this is Linux on aarch64"),
        (("3.11.9", "Darwin", "arm64"), "this is Darwin on arm64; without locks: pip install . "),
    ],
)
def test_the_locks_are_for_one_python_and_one_system(place: tuple[str, str, str], words: str) -> None:
    spec = importlib.util.spec_from_file_location("check_python", ROOT / ".ci/check_python.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said = module.refusal(*place)
    assert words in said
    assert bool(said) == bool(words)

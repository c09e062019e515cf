"""The wheel in a fresh environment: the core's commands, without PyTorch and Ray, far from any clone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "lungforge", "services")
#: The most that the environment may take on disk.
LARGEST_BYTES = 10**9

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=800, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, so that nothing is left in the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    built = _run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."),
        folder=folder,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment")
    made = _run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    assert made.returncode == 0, made.stderr
    programs = folder / "venv/bin"
    pip = (programs / "python", "-m", "pip", "--quiet")
    if _run(*pip, "download", "--no-deps", "--dest", "index", "tyro", folder=folder).returncode:
        pytest.skip("no package index is reached from here")
    installed = _run(*pip, "install", wheel, folder=folder)
    assert installed.returncode == 0, installed.stderr
    return programs


def test_the_core_is_small_and_has_neither_pytorch_nor_ray(programs: Path) -> None:
    packages = next(programs.parent.glob("lib/python*/site-packages"))
    assert (packages / "lungforge/pretrained/slices-64/manifest.json").is_file()
    assert (packages / "services/eval/report/report.html").is_file()
    assert (packages / "services/nightly/index.html").is_file()
    assert not [name for name in ("torch", "ray", "mmengine", "jinja2") if (packages / name).exists()]
    files = [path for path in programs.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES


def test_the_core_goes_from_phantoms_to_coco(programs: Path, tmp_path: Path) -> None:
    def run(*words: str) -> dict:
        done = _run(programs / "lungforge", *words, "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("phantom", "--out", "source", "--series", "3", "--size", "64", "--slices", "20")
    made = run("preprocess", "--source", "source", "--out", "slices", "--size", "64")
    assert made["volumes"] == 3
    assert run("show", "slices", "--sheet", "sheet.png")["rows"] == made["slices"]
    assert run("export", "--data", "slices", "--out", "coco", "--format", "coco")["rows"] == made["slices"]
    assert "lungforge://slices-64" in [model["uri"] for model in run("models")["models"]]
    assert (tmp_path / "sheet.png").is_file()
    refused = _run(programs / "lungforge", "sample", "--help", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == (
        "lungforge sample: this command needs PyTorch: pip install 'lungforge[sample]'\n"
    )

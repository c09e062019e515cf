"""What works without any extra, and what says which extra it needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lungforge import extras
from lungforge.extras import MODULES
from services.cli import main as cli

ROOT = Path(__file__).parents[2]
#: All that the extras bring; Ray brings grpc.
HIDDEN = ",".join({"grpc", "highdicom"}.union(*MODULES.values()))
#: What imports without any of it: these packages, but for some modules.
CORE = [
    "lungforge.ct",
    "lungforge.datasets",
    "lungforge.storage",
    "lungforge.visualisation",
    "lungforge.config",
    "lungforge.randomness",
    "lungforge.models.model_dataset",
    "lungforge.models.registry",
    "services.cli",
    "services.export",
    "services.preprocess",
    "services.sample.config",
    "services.train.config",
    "services.train.presets",
    "services.eval.config",
    "services.eval.results",
    "services.nightly.config",
    "services.submit.config",
    "services.tools.models",
    "services.tools.phantom",
    "services.tools.score_candidates",
    "services.tools.show",
    "services.common.workers",
    "services.common.telemetry",
]
NOT_CORE = {"services.preprocess.ray_data"}


def _run(hidden: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tests/without_packages.py", hidden, *words],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def _modules() -> list[str]:
    paths = [path for folder in ("lungforge", "services") for path in (ROOT / folder).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    names = {name.removesuffix(".__init__") for name in names}
    core = {name for name in names if any(name == each or name.startswith(f"{each}.") for each in CORE)}
    return sorted(core - NOT_CORE)


def test_the_core_imports_without_any_extra() -> None:
    modules = _modules()
    assert set(CORE) <= set(modules)
    done = _run(HIDDEN, "import", *modules)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_core_does_not_load_pytorch_where_it_is() -> None:
    loading = {"services.preprocess"}  # counts by Ray
    modules = [name for name in _modules() if not any(name.startswith(each) for each in loading)]
    program = (
        "import sys, importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert not {'torch', 'mmengine', 'jinja2'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, encoding="utf-8", check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "package", "asked"),
    [
        ("train", "PyTorch", "train"),
        ("sample", "PyTorch", "sample"),
        ("ema", "PyTorch", "sample"),
        ("import-checkpoint", "PyTorch", "sample"),
        ("evaluate", "PyTorch", "eval"),
        ("nightly", "PyTorch", "eval"),
        ("demo", "PyTorch", "train,eval"),
        ("submit", "Ray", "ray"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(
    command: str,
    package: str,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: False)
    assert cli.main([command, "--help"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"lungforge {command}: this command needs {package}: pip install 'lungforge[{asked}]'\n"
    )


@pytest.mark.parametrize("command", ["phantom", "preprocess", "show", "models", "export", "score-candidates"])
def test_the_commands_of_the_core_lack_nothing(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: False)
    assert cli.main([command, "--help"]) == 0
    assert f"usage: lungforge {command}" in capsys.readouterr().out


@pytest.mark.slow
def test_from_phantoms_to_coco_without_any_extra(tmp_path: Path) -> None:
    def run(*words: str) -> dict:
        done = _run(HIDDEN, "lungforge", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    source, slices, coco = (str(tmp_path / name) for name in ("source", "slices", "coco"))
    run("phantom", "--out", source, "--series", "3", "--size", "64", "--slices", "20")
    made = run("preprocess", "--source", source, "--out", slices, "--size", "64")
    assert made["volumes"] == 3
    shown = run("show", slices, "--sheet", str(tmp_path / "sheet.png"))
    assert shown["rows"] == made["slices"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert run("export", "--data", slices, "--out", coco, "--format", "coco")["rows"] == made["slices"]
    assert run("show", "lungforge://slices-64")["kind"] == "model"
    assert "lungforge://slices-64" in [model["uri"] for model in run("models")["models"]]


@pytest.mark.slow
def test_slices_are_sampled_without_ray(tmp_path: Path) -> None:
    packaged = ["--model", "lungforge://slices-64", "--data", "lungforge://maps-64"]
    options = ["--out", str(tmp_path / "out"), "--count", "2", "--steps", "2"]
    done = _run("ray,grpc", "lungforge", "sample", *packaged, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "Ray is not installed: working in this process"

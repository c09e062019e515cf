"""The study as one command, as small as can be: all steps run, and again none does."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import study, study_table
from lungforge.datasets import Dataset, Kind
from services.preprocess import job as preprocess
from services.preprocess.config import PreprocessConfig
from services.tools import phantom
from services.tools.phantom import PhantomConfig
from tests.long_run import in_the_long_run

pytestmark = [in_the_long_run, pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]


def _run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    monkeypatch.setattr(sys, "argv", ["study", *options])
    assert study.main() == 0
    return capsys.readouterr().out


def test_the_study_runs_prints_its_tables_and_resumes(tmp_path: Path, monkeypatch, capsys) -> None:
    phantom.run(PhantomConfig(out=str(tmp_path / "luna16"), series=24, size=128, slices=32))
    data = str(tmp_path / "slices")
    preprocess.run(
        PreprocessConfig(
            source=str(tmp_path / "luna16"), out=data, size=32, slices="nodules", healthy_every=4
        )
    )
    options = ["--data", data, "--train", "0", "1", "2", "3", "4", "5", "--test", "6", "7", "8", "9"]
    options += ["--out", str(tmp_path / "study"), "--preset", "tiny", "--steps", "4", "--seeds", "2"]
    capsys.readouterr()
    document = json.loads(_run(capsys, monkeypatch, *options, "--json"))
    assert list(document["seconds"]) == [
        "train gaugan",
        "sample gaugan",
        "train sdm",
        "sample sdm",
        "evaluate",
    ]
    assert [results["name"] for results in document["sets"]] == ["samples-gaugan", "samples-sdm"]
    assert [task["networks_per_arm"] for task in document["downstream"]["tasks"]] == [2, 2]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*.json")}
    text = _run(capsys, monkeypatch, *options)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*.json")} == before
    report = Dataset.open(str(tmp_path / "study" / "report"), Kind.REPORT)
    monkeypatch.setattr(sys, "argv", ["study_table", "--report", report.uri])
    assert study_table.main() == 0
    assert capsys.readouterr().out.rstrip() in text
    assert "Differences: not measured: the networks learned nothing" in text

"""Preprocessing in this process: the same parts, one volume after another; a stopped run is resumed."""

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest

from lungforge.config import identity
from lungforge.ct.phantoms.generate import write_phantoms
from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import InputError
from services.preprocess import job
from services.preprocess.config import PreprocessConfig
from services.preprocess.survey import survey
from services.preprocess.volume import VolumeTask

SCANS = 3


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(str(folder), series=SCANS, seed=1, size=64, slices=10)
    return folder


@pytest.fixture
def config(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreprocessConfig:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python says "not installed"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    source = shutil.copytree(phantoms, tmp_path / "source")
    return PreprocessConfig(str(source), str(tmp_path / "out"), size=32, healthy_every=3, workers=2)


def _parts(uri: str) -> dict[str, str]:
    return {part.name: part.sha256 for part in Dataset.open(uri, Kind.SLICES).parts}


def test_the_parts_are_those_of_each_volume_by_itself(
    config: PreprocessConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = job.run(config)
    assert result.volumes == SCANS
    assert "Ray is not installed: working in this process\n" in capsys.readouterr().err
    # The same, written out: each volume by itself, in the opposite order.
    apart = DatasetWriter(str(tmp_path / "apart"), Kind.SLICES, identity(config), config.seed)
    task = VolumeTask(config, apart, apart)
    parts = [task(volume).slices for volume in reversed(survey(config).volumes)]
    assert _parts(config.out) == {part.name: part.sha256 for part in parts if part}


def test_a_run_that_was_stopped_is_resumed_to_the_same_bytes(
    config: PreprocessConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unbroken = dataclasses.replace(config, out=str(tmp_path / "unbroken"))
    job.run(unbroken)
    work, begun = VolumeTask._work, []

    def stopped(task: VolumeTask, volume):
        begun.append(volume.part_name)
        if len(begun) == SCANS:
            raise KeyboardInterrupt
        return work(task, volume)

    with monkeypatch.context() as patched:
        patched.setattr(VolumeTask, "_work", stopped)
        with pytest.raises(KeyboardInterrupt):
            job.run(config)
    capsys.readouterr()
    job.run(config)
    assert f"{SCANS - 1} volumes were there from an earlier run" in capsys.readouterr().err
    assert _parts(config.out) == _parts(unbroken.out)
    assert Dataset.open(config.out).manifest_sha256 == Dataset.open(unbroken.out).manifest_sha256


def test_a_bad_volume_is_rejected_or_ends_a_strict_run(config: PreprocessConfig) -> None:
    raw = sorted(Path(config.source).glob("subset1/*.raw"))[0]
    raw.write_bytes(raw.read_bytes()[:-100])
    with pytest.raises(InputError, match="bytes"):
        job.run(dataclasses.replace(config, strict=True))
    result = job.run(config)
    assert result.volumes == SCANS - 1
    assert [rejected["series_uid"] for rejected in result.rejected] == [raw.stem]

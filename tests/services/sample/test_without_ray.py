"""Sampling in this process: the same parts, one after another, and resumed where it was stopped."""

import dataclasses
import sys
from pathlib import Path

import pytest

from lungforge.datasets import Dataset, Kind
from services.sample import job
from services.sample.config import SampleConfig
from services.sample.worker import UnitSampler


@pytest.fixture
def config(
    model: str, slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> SampleConfig:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python says "not installed"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return SampleConfig(
        model, slices, str(tmp_path / "out"), steps=2, sampler="ddim", part_images=5, workers=2, hu_gate=False
    )


def _parts(uri: str) -> dict[str, str]:
    return {part.name: part.sha256 for part in Dataset.open(uri, Kind.SAMPLES).parts}


def test_a_run_that_was_stopped_is_resumed_to_the_same_bytes(
    config: SampleConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken = dataclasses.replace(config, out=str(tmp_path / "unbroken"), batch=3, workers=1)
    assert job.run(unbroken).parts == 3
    assert capsys.readouterr().err.startswith("Ray is not installed: working in this process\n")
    sample, sampled = UnitSampler._sample_batch, []

    def stopped(sampler: UnitSampler, batch):
        sampled.append(len(batch))
        if sum(sampled) > 6:
            raise KeyboardInterrupt
        return sample(sampler, batch)

    with monkeypatch.context() as patched:
        patched.setattr(UnitSampler, "_sample_batch", stopped)
        with pytest.raises(KeyboardInterrupt):
            job.run(config)
    written = list(Path(config.out).rglob("part-*.parquet"))
    assert len(written) == 1
    before = written[0].stat().st_mtime_ns
    job.run(config)
    assert written[0].stat().st_mtime_ns == before
    assert _parts(config.out) == _parts(unbroken.out)


def test_a_dry_run_times_a_batch_and_writes_nothing(config: SampleConfig) -> None:
    result = job.run(dataclasses.replace(config, dry_run=True))
    assert (result.images, result.parts, result.dry_run) == (12, 3, True)
    assert result.estimated_seconds is not None
    assert result.estimated_seconds >= 0
    assert not Path(config.out).exists()

"""Sampling under Ray: any number of workers, and any of them killed at any time."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungforge.datasets import Dataset, Kind, rows_from_table
from lungforge.errors import InputError
from lungforge.metrics.hu_gate import GateCounts, HuRanges
from lungforge.storage import open_uri
from services.sample.config import SampleConfig
from services.sample.job import SampleResult, run

#: Gives the environment for a process that starts its Ray cluster.
OwnRay = Callable[[], dict[str, str]]

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def _config(model: str, slices: str, out: Path, **changes: Any) -> SampleConfig:
    plain = SampleConfig(model=model, data=slices, out=str(out), per_map=8, steps=20, part_images=8, batch=5)
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def here(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling is done in this process: for what a job does whoever samples."""
    monkeypatch.setattr("services.common.workers.with_ray", lambda: False)


@pytest.fixture(scope="module")
def unbroken(model: str, slices: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker samples."""
    out = tmp_path_factory.mktemp("job") / "unbroken"
    result = run(_config(model, slices, out))
    assert result == SampleResult(samples=str(out), images=96, parts=12, maps=12)
    return out


def _kill_a_worker_after(path: Path, parts: int) -> threading.Thread:
    """In a thread: as soon as there are ``parts`` parts, kill -9 a process that samples."""

    def wait_and_kill() -> None:
        gone = threading.Event()
        while len(list(path.glob("parts-*/part-*.parquet"))) < parts:
            gone.wait(0.002)
        os.kill(_workers()[0], signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def _workers() -> list[int]:
    """The descendants of this process that sample, from /proc."""
    parents, sampling = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
            if (folder / "cmdline").read_bytes().startswith(b"ray::SamplingActor"):
                sampling.append(int(folder.name))
    descendants = [os.getpid()]
    for parent in descendants:
        descendants += [child for child, other in parents.items() if other == parent]
    return sorted(set(descendants) & set(sampling))


def test_two_workers_sample_what_one_samples(model: str, slices: str, tmp_path: Path, unbroken: Path) -> None:
    run(_config(model, slices, tmp_path / "samples", workers=2))
    # Every part with its sha256, the lineage, and nothing of which worker sampled it.
    manifest = (tmp_path / "samples" / "manifest.json").read_bytes()
    assert manifest == (unbroken / "manifest.json").read_bytes()
    dataset = Dataset.open(str(unbroken), Kind.SAMPLES)
    dataset.verify()
    assert dataset.rows == 96
    assert [(parent.kind, parent.sha256) for parent in dataset.manifest.parents] == [
        (Kind.MODEL, Dataset.open(model).manifest_sha256),
        (Kind.SLICES, Dataset.open(slices).manifest_sha256),
    ]


@pytest.mark.usefixtures("here")
def test_this_process_samples_what_ray_samples(
    model: str, slices: str, tmp_path: Path, unbroken: Path
) -> None:
    run(_config(model, slices, tmp_path / "samples"))
    # The manifest has the sha256 of every part.
    assert (tmp_path / "samples/manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_worker_that_dies_is_replaced(
    model: str,
    slices: str,
    tmp_path: Path,
    unbroken: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    in_flight: int,
) -> None:
    # Two, as on a GPU.
    monkeypatch.setattr("services.sample.job.units_in_flight", lambda uses_gpu: in_flight)
    out = tmp_path / "samples"
    killer = _kill_a_worker_after(out, 2)
    run(_config(model, slices, out, workers=2))
    killer.join(timeout=1)
    assert not killer.is_alive()
    assert "a worker died at part" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()


def test_a_finished_run_writes_nothing(model: str, slices: str, unbroken: Path) -> None:
    def content() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}

    before = content()
    assert run(_config(model, slices, unbroken, workers=2)).images == 96
    # What suits the model is not other work when it is asked for by name.
    assert run(_config(model, slices, unbroken, sampler="ancestral", guidance=1.5)).images == 96
    assert content() == before
    with pytest.raises(InputError, match=r"differs in guidance \(1.5 there, 2.0 here\); choose"):
        run(_config(model, slices, unbroken, guidance=2.0))


@pytest.mark.usefixtures("here")
def test_an_incomplete_run_resumes(model: str, slices: str, tmp_path: Path, unbroken: Path) -> None:
    # As a killed driver leaves it: some parts, one of them damaged, and no manifest.
    out = tmp_path / "samples"
    parts = sorted(unbroken.glob("parts-*/part-*.parquet"))[3:9]
    (out / parts[0].parent.name).mkdir(parents=True)
    copies = [out / part.parent.name / part.name for part in parts]
    for part, copy in zip(parts, copies, strict=True):
        copy.write_bytes(part.read_bytes())
    copies[0].write_bytes(parts[0].read_bytes()[:-100])
    kept = {copy: copy.stat().st_mtime_ns for copy in copies[1:]}
    run(_config(model, slices, out))
    assert (out / "manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()
    assert {copy: copy.stat().st_mtime_ns for copy in copies[1:]} == kept
    Dataset.open(str(out)).verify()


def _start(model: str, slices: str, out: Path | str, own_ray: OwnRay, *more: str) -> subprocess.Popen:
    """The job of ``_config`` as a user would start it, on a new Ray cluster."""
    options = [f"--model={model}", f"--data={slices}", f"--out={out}", "--per-map=8", "--steps=20"]
    return subprocess.Popen(
        [sys.executable, "-m", "services", "sample", *options, "--part-images=8", "--batch=5", *more],
        env=own_ray(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def _when(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
    """In a thread: do something as soon as a condition holds."""

    def wait_and_act() -> None:
        gone = threading.Event()
        while not condition():
            gone.wait(0.005)
        action()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def _parts(path: Path) -> int:
    return len(list(path.glob("parts-*/part-*.parquet")))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_job_resumes(
    model: str, slices: str, tmp_path: Path, unbroken: Path, number: signal.Signals, own_ray: OwnRay
) -> None:
    out = tmp_path / "samples"
    job = _start(model, slices, out, own_ray)

    def end() -> None:
        os.killpg(job.pid, number) if number == signal.SIGKILL else os.kill(job.pid, number)

    ender = _when(lambda: _parts(out) >= 3, end)
    _, errors = job.communicate(timeout=300)
    ender.join(timeout=5)
    assert job.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), errors
    if number == signal.SIGTERM:
        assert "interrupted; run the same command again to resume" in errors
    assert not (out / "manifest.json").exists()
    written = {path: path.stat().st_mtime_ns for path in out.glob("parts-*/part-*.parquet")}
    assert 3 <= len(written) < 12
    run(_config(model, slices, out))
    assert (out / "manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.s3
@pytest.mark.slow
def test_four_workers_survive_a_store_that_is_down_for_a_while(
    model: str, slices: str, s3_server: Any, s3_uri: str, unbroken: Path, own_ray: OwnRay
) -> None:
    job = _start(model, slices, s3_uri, own_ray, "--workers=4")
    fs, path = open_uri(s3_uri)

    def away_for_ten_seconds() -> None:
        s3_server.kill()
        threading.Event().wait(10)
        s3_server.start()

    breaker = _when(lambda: len(fs.glob(f"{path}/parts-*/part-*.parquet")) >= 2, away_for_ten_seconds)
    _, errors = job.communicate(timeout=300)
    breaker.join(timeout=60)
    assert not breaker.is_alive()
    assert job.returncode == 0, errors
    there, here = (Dataset.open(uri).manifest.parts for uri in (s3_uri, str(unbroken)))
    assert [(part.path, part.rows, part.sha256) for part in there] == [
        (part.path, part.rows, part.sha256) for part in here
    ]


@pytest.mark.slow
def test_a_full_disk_is_reported_and_nothing_is_lost(
    model: str, slices: str, tmp_path: Path, unbroken: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a full disk needs the right to mount one: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            run(_config(model, slices, folder / "samples"))
        assert not (folder / "samples" / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        run(_config(model, slices, folder / "samples"))
        manifest = (folder / "samples" / "manifest.json").read_bytes()
        assert manifest == (unbroken / "manifest.json").read_bytes()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_dry_run_prints_the_plan_and_writes_nothing(model: str, slices: str, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    result = run(_config(model, slices, out, dry_run=True, workers=2))
    assert (result.images, result.parts, result.maps, result.dry_run) == (96, 12, 12, True)
    assert result.estimated_seconds is not None
    assert result.estimated_seconds > 0
    assert not out.exists()


@pytest.mark.usefixtures("here")
def test_what_has_no_room_is_left_out_and_counted(
    model: str, cramped_slices: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(
        model, cramped_slices, tmp_path / "samples", steps=1, edits=(("none", 1.0), ("insert", 1.0))
    )
    result = run(config)
    assert result.images + result.left_out == 96
    assert 10 < result.left_out < 48
    assert f"{result.left_out} of 96 images were left out" in capsys.readouterr().err
    assert Dataset.open(result.samples).rows == result.images
    assert run(config) == result


def test_the_gate_gives_the_same_samples_with_any_workers_and_after_a_kill(
    make_gated_model: Callable[[HuRanges], str],
    slices: str,
    unbroken: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = [row for row in _rows(unbroken) if row["source_series_uid"] == "scan-0"]
    medians = [float(np.median(row["image"][row["label"] == 1])) for row in plain]
    # About every second image of the first try has brighter body than that.
    highest = float(np.median(medians))
    brighter = int((np.array(medians) > highest).sum())
    assert 10 < brighter < 30
    ranges = HuRanges((None, (-1000.0, highest), None, None, None, None))
    model, changes = make_gated_model(ranges), {"hu_gate": True, "subsets": (0,)}
    result = run(_config(model, slices, tmp_path / "one", **changes))
    rows = _rows(tmp_path / "one")
    retries = np.array([row["hu_retries"] for row in rows])
    assert result.hu_gate == GateCounts(
        int((retries > 0).sum()), int(retries.sum()), sum(row["hu_outside"] for row in rows)
    )
    assert (retries > 0).sum() == brighter
    words = f"{brighter} of 40 images left the range of the training images in HU and were sampled again, "
    assert words in capsys.readouterr().err
    for row, other, median in zip(rows, plain, medians, strict=True):
        assert (row["hu_retries"] == 0) == np.array_equal(row["image"], other["image"])
        assert (row["hu_retries"] > 0) == (median > highest)
    # A run that was killed before its last parts, and resumes with two workers.
    whole = (tmp_path / "one" / "manifest.json").read_bytes()
    (tmp_path / "one" / "manifest.json").unlink()
    for part in sorted((tmp_path / "one").glob("parts-*/part-*.parquet"))[2:]:
        part.unlink()
    assert run(_config(model, slices, tmp_path / "one", workers=2, **changes)) == result
    assert (tmp_path / "one" / "manifest.json").read_bytes() == whole
    assert run(_config(model, slices, tmp_path / "one", **changes)) == result


def _rows(folder: Path) -> list[dict[str, Any]]:
    dataset = Dataset.open(str(folder), Kind.SAMPLES)
    return [row for part in dataset.parts for row in rows_from_table(dataset.read_part(part))]


def test_a_fault_of_the_model_is_reported_in_one_line(
    patch_model: str, other_slices: str, tmp_path: Path
) -> None:
    path = next(Path(patch_model).glob("*/model.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"model.safetensors: altered since it was written"):
        run(_config(patch_model, other_slices, tmp_path / "samples"))
    assert not (tmp_path / "samples" / "manifest.json").exists()

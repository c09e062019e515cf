"""Sampling under Ray: any number of workers, and any of them killed at any time."""

import contextlib
import dataclasses
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from lungforge.errors import InputError
from lungforge.store import Dataset, Kind, StoreError
from services.sample.config import SampleConfig
from services.sample.job import SampleResult, run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def _config(model: str, slices: str, out: Path, **changes: Any) -> SampleConfig:
    plain = SampleConfig(model=model, data=slices, out=str(out), per_map=8, steps=20, part_images=8, batch=5)
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def unbroken(model: str, slices: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker draws."""
    out = tmp_path_factory.mktemp("job") / "unbroken"
    result = run(_config(model, slices, out))
    assert result == SampleResult(samples=str(out), images=96, parts=12, maps=12)
    return out


def _kill_a_worker_after(path: Path, parts: int) -> threading.Thread:
    """In a thread: as soon as there are so many parts, kill -9 a process that draws."""

    def wait_and_kill() -> None:
        gone = threading.Event()
        while len(list(path.glob("parts-*/part-*.parquet"))) < parts:
            gone.wait(0.002)
        os.kill(_workers()[0], signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def _workers() -> list[int]:
    """The processes below this one that draw, by Linux's own tables."""
    parents, drawing = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                drawing.append(int(folder.name))
    own = [os.getpid()]
    for parent in own:
        own += [child for child, other in parents.items() if other == parent]
    return sorted(set(own) & set(drawing))


def test_two_workers_draw_what_one_draws(model: str, slices: str, tmp_path: Path, unbroken: Path) -> None:
    run(_config(model, slices, tmp_path / "samples", workers=2))
    # Every part with its sha256, the lineage, and no word of who drew it.
    manifest = (tmp_path / "samples" / "manifest.json").read_bytes()
    assert manifest == (unbroken / "manifest.json").read_bytes()
    dataset = Dataset.open(str(unbroken), Kind.SAMPLES)
    dataset.verify()
    assert dataset.rows == 96
    assert [(parent.kind, parent.sha256) for parent in dataset.manifest.parents] == [
        (Kind.MODEL, Dataset.open(model).manifest_sha256),
        (Kind.SLICES, Dataset.open(slices).manifest_sha256),
    ]


def test_a_worker_that_dies_is_replaced(
    model: str, slices: str, tmp_path: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "samples"
    killer = _kill_a_worker_after(out, 2)
    run(_config(model, slices, out, workers=2))
    killer.join(timeout=1)
    assert not killer.is_alive()
    assert "a worker died while it drew part" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()


def test_a_finished_run_writes_nothing(model: str, slices: str, unbroken: Path) -> None:
    def content() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}

    before = content()
    assert run(_config(model, slices, unbroken, workers=2)).images == 96
    assert content() == before
    with pytest.raises(StoreError, match=r"differs in guidance \(1.5 there, 2.0 here\); choose"):
        run(_config(model, slices, unbroken, guidance=2.0))


def test_half_a_run_is_gone_on_with(model: str, slices: str, tmp_path: Path, unbroken: Path) -> None:
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


def test_a_models_fault_is_told_plainly(patch_model: str, other_slices: str, tmp_path: Path) -> None:
    path = next(Path(patch_model).glob("*/model.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"model.safetensors: altered since it was written"):
        run(_config(patch_model, other_slices, tmp_path / "samples"))
    assert not (tmp_path / "samples" / "manifest.json").exists()

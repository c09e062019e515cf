"""Training under Ray: any number of workers, and any of them killed at any time."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import InputError
from lungforge.models.sdm.error_bands import BANDS
from lungforge.storage import open_uri
from services.train.config import TrainConfig
from services.train.job import TrainResult, run
from services.train.loop import train
from services.train.presets import tiny
from services.train.run import prepare

#: Gives the environment for a process that starts its Ray cluster.
OwnRay = Callable[[], dict[str, str]]

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local", "one_thread")]


#: The smallest networks of both kinds.
SMALL = {
    "sdm": {"channel_multipliers": (1,), "attention_sizes": ()},
    "gaugan": {"channel_multipliers": (2, 1), "latent_channels": 4},
}


def _config(slices: str, out: Path, model: str = "sdm", **changes) -> TrainConfig:
    preset = tiny(slices, str(out), model)
    network = dataclasses.replace(preset.network, **SMALL[model])
    small = dataclasses.replace(preset, network=network, batch=4, steps=40, checkpoint_every=4)
    return dataclasses.replace(small, **changes)


@pytest.fixture(scope="module", params=["sdm", pytest.param("gaugan", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> str:
    return request.param


#: For what a job does whatever it trains; test_loop.py stops and resumes both kinds.
only_sdm = pytest.mark.parametrize("model", ["sdm"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def unbroken(slices: str, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that one process trained, without Ray."""
    import torch

    from lungforge.config import identity

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("job") / "unbroken"
    config = _config(slices, out, model)
    data = Dataset.open(slices)
    writer = DatasetWriter(
        uri=str(out), kind=Kind.MODEL, config=identity(config), seed=0, parents=(data.parent(),)
    )
    train(prepare(config, data, writer), lambda done, metrics: None)
    return out


def _losses(uri: Path) -> np.ndarray:
    """What is minimised at each step and, of the diffusion model, the errors by noise, [steps, metrics]."""
    history = json.loads(Dataset.open(str(uri)).read_file("history.json"))
    names = ("loss", *BANDS) if "loss" in history else ("generator_loss",)
    return np.array([history[name] for name in names]).T


def _descendants(pid: int) -> list[int]:
    """The descendants of a process, from /proc."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
    descendants = [pid]
    for parent in descendants:
        descendants += [child for child, other in parents.items() if other == parent]
    return descendants[1:]


def _kill_when(
    path: Path, pattern: str, victims: Callable[[], list[int]], number: signal.Signals = signal.SIGKILL
) -> threading.Thread:
    """In a thread: as soon as there is a file of this pattern, send the processes a signal."""

    def wait_and_kill() -> None:
        gone = threading.Event()
        while not list(path.glob(pattern)):
            gone.wait(0.005)
        for pid in victims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def _second_worker() -> list[int]:
    """The younger of the train workers that this process has."""
    workers = []
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                workers.append(pid)
    return [max(workers)]


@pytest.mark.slow
def test_two_workers_one_of_them_killed_agree_with_one(
    slices: str, tmp_path: Path, model: str, unbroken: Path
) -> None:
    out = tmp_path / "model"
    killer = _kill_when(out, "checkpoints/*/step-00000008/checkpoint.json", _second_worker)
    result = run(_config(slices, out, model, workers=2))
    killer.join(timeout=1)
    assert not killer.is_alive()
    assert result == TrainResult(model=str(out), steps=40, rows=20, series=5, size=16)
    losses, alone = _losses(out), _losses(unbroken)
    assert len(losses) == 40
    differences = np.abs(losses - alone) / np.maximum(1, np.abs(alone))
    # Two players magnify a difference threefold a step once they learn at full rate: from rounding (1e-7) in
    # the first ten steps to 7e-5 after twenty. The diffusion model does not.
    assert differences[: 20 if model == "sdm" else 10].max() <= 1e-5
    assert not (out / "ray-train").exists()


def _start(slices: str, out: Path | str, model: str, own_ray: OwnRay, *more: str) -> subprocess.Popen:
    """The job of ``_config`` as a user would start it, on a new Ray cluster."""
    options = [f"--data={slices}", f"--out={out}", f"--model={model}", "--preset=tiny"]
    network = {f"network.{name}": value for name, value in SMALL[model].items()}
    for name, value in {**network, "batch": 4, "steps": 40, "checkpoint_every": 4}.items():
        values = value if isinstance(value, tuple) else (value,)
        options += [f"--{name.replace('_', '-')}", *map(str, values)]
    return subprocess.Popen(
        [sys.executable, "-m", "services", "train", *options, *more],
        env=own_ray(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def test_the_whole_job_killed_and_run_again_equals_unbroken(
    slices: str, tmp_path: Path, model: str, unbroken: Path, own_ray: OwnRay
) -> None:
    out = tmp_path / "model"
    job = _start(slices, out, model, own_ray)
    killer = _kill_when(out, "checkpoints/*/step-00000012", lambda: [job.pid, *_descendants(job.pid)])
    _, errors = job.communicate(timeout=300)
    killer.join(timeout=10)
    assert job.returncode == -signal.SIGKILL, errors
    assert not (out / "manifest.json").exists()
    run(_config(slices, out, model))
    assert (out / "manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()
    assert len(list((out / "checkpoints").iterdir())) == 1, "it resumed from its checkpoints"


@only_sdm
@pytest.mark.slow
def test_terminated_it_saves_its_step_and_resumes_from_there(
    slices: str, tmp_path: Path, model: str, unbroken: Path, own_ray: OwnRay
) -> None:
    out = tmp_path / "model"
    job = _start(slices, out, model, own_ray)
    terminator = _kill_when(
        out, "checkpoints/*/step-00000008/checkpoint.json", lambda: [job.pid], signal.SIGTERM
    )
    _, errors = job.communicate(timeout=300)
    terminator.join(timeout=10)
    assert job.returncode == 130, errors
    said = re.search(r"saved: (\d+) steps are done", errors)
    assert said is not None, errors
    assert list(out.glob(f"checkpoints/*/step-{int(said[1]):08d}/checkpoint.json"))
    assert not (out / "ray-train").exists()
    run(_config(slices, out, model))
    assert (out / "manifest.json").read_bytes() == (unbroken / "manifest.json").read_bytes()
    assert len(list((out / "checkpoints").iterdir())) == 1, "it resumed from its checkpoints"


@only_sdm
@pytest.mark.s3
@pytest.mark.slow
def test_a_model_on_s3_is_the_same(
    slices: str, s3_uri: str, model: str, unbroken: Path, own_ray: OwnRay
) -> None:
    job = _start(slices, s3_uri, model, own_ray, "--preview-every", "20")
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    manifest, local = (Dataset.open(uri).manifest for uri in (s3_uri, str(unbroken)))
    assert [part.sha256 for part in manifest.parts] == [part.sha256 for part in local.parts]
    fs, path = open_uri(s3_uri)
    assert fs.glob(f"{path}/tensorboard/events*"), errors
    assert fs.glob(f"{path}/previews/step-00000020.png")
    # This server keeps empty folders, and lists each as a file of no bytes.
    assert fs.find(f"{path}/ray-train") in ([], [f"{path}/ray-train"])


def test_a_finished_run_writes_nothing(slices: str, model: str, unbroken: Path) -> None:
    def content() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in unbroken.rglob("*")}

    before = content()
    assert run(_config(slices, unbroken, model)).steps == 40
    assert content() == before
    with pytest.raises(InputError, match=r"differs in .*seed.*choose another --out"):
        run(_config(slices, unbroken, model, seed=1))


@pytest.mark.slow
def test_a_damaged_slice_stops_every_worker(slices: str, tmp_path: Path) -> None:
    shutil.copytree(slices, tmp_path / "slices")
    dataset = Dataset.open(str(tmp_path / "slices"))
    path = tmp_path / "slices" / dataset.manifest.parts[2].path
    # A pixel that a single worker reads; the small columns, which all is planned from, are as they were.
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(5)
    assert column.path_in_schema.startswith("image")
    data[column.data_page_offset + column.total_compressed_size - 20] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path.name}: altered since it was written"):
        run(_config(str(tmp_path / "slices"), tmp_path / "model", workers=2))

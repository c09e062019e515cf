"""Metrics in MLflow and Weights & Biases, with their real packages and without a network."""

import dataclasses
import json
import os
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from mlflow.tracking import MlflowClient
from wandb.proto import wandb_internal_pb2

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import InputError
from services.train.config import TrainConfig
from services.train.loop import train
from services.train.presets import tiny
from services.train.run import prepare
from services.train.trackers import TrackerThread, targets_of, thread
from services.train.trackers.base import Target
from services.train.trackers.mlflow_tracker import TAG

pytestmark = pytest.mark.usefixtures("one_thread", "offline")
OPTIONS = {"steps": 30, "network": {"base_channels": 32}}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nobody has logged in to either."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/dev/null")


def _config(slices: str, out: Path, **changes: Any) -> TrainConfig:
    preset = tiny(slices, str(out))
    network = dataclasses.replace(preset.network, channel_multipliers=(1,), attention_sizes=())
    return dataclasses.replace(preset, network=network, batch=4, steps=20, checkpoint_every=5, **changes)


def _train(config: TrainConfig, *, stop_at: int | None = None) -> Path:
    data = Dataset.open(config.data)
    writer = DatasetWriter(
        uri=config.out, kind=Kind.MODEL, config=identity(config), seed=config.seed, parents=(data.parent(),)
    )
    seen: list[int] = []
    train(prepare(config, data, writer), lambda done, _: seen.append(done), stop=lambda: stop_at in seen)
    return Path(config.out)


def _mlflow_runs(folder: Path) -> list[Any]:
    client = MlflowClient(tracking_uri=f"file://{folder}/mlruns")
    experiment = client.get_experiment_by_name("lungforge")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log, whose first seven bytes are a mark of the file."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""


def _wandb_steps(file: Path) -> dict[int, dict[str, float]]:
    """The metrics in a file of an offline run, by step."""
    steps: dict[int, dict[str, float]] = {}
    for data in _wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            steps[int(record.history.step.num)] = row
    return steps


@pytest.fixture(scope="module")
def history(slices: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Metrics of every step of the run that the tests repeat."""
    out = _train(_config(slices, tmp_path_factory.mktemp("plain") / "model"))
    metrics: dict[str, list[float]] = json.loads(Dataset.open(str(out)).read_file("history.json"))
    return metrics


def test_mlflow_has_the_metrics_of_every_tenth_step_and_resumes_its_run(
    slices: str, tmp_path: Path, history: dict[str, list[float]]
) -> None:
    config = _config(slices, tmp_path / "model", log_to=("mlflow",))
    _train(config, stop_at=12)
    assert not (tmp_path / "model" / "manifest.json").exists()
    (stopped,) = _mlflow_runs(tmp_path / "model")
    out = _train(config)
    (run,) = _mlflow_runs(out)
    assert run.info.run_id == stopped.info.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "model")
    assert run.data.params["network.base_channels"] == "32"
    assert run.data.params["steps"] == "20"
    client = MlflowClient(tracking_uri=f"file://{out}/mlruns")
    points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "loss")}
    assert points == {step: pytest.approx(history["loss"][step - 1]) for step in (10, 20)}


def test_wandb_without_a_key_keeps_the_same_in_files(
    slices: str, tmp_path: Path, history: dict[str, list[float]]
) -> None:
    config = _config(slices, tmp_path / "model", log_to=("wandb",))
    _train(config, stop_at=12)
    out = _train(config)
    files = sorted((out / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1, "one run, in two parts"
    steps: dict[int, dict[str, float]] = {}
    for file in files:
        steps |= _wandb_steps(file)
    assert {step: row["train/loss"] for step, row in steps.items()} == {
        step: pytest.approx(history["loss"][step - 1]) for step in (10, 20)
    }
    # Neither the command line nor the machine or its user.
    content = b"".join(path.read_bytes() for path in (out / "wandb").rglob("*") if path.is_file())
    assert b"pytest" not in content.replace(str(tmp_path).encode(), b"")


def test_trackers_are_no_part_of_the_model(slices: str, tmp_path: Path) -> None:
    plain = _train(_config(slices, tmp_path / "plain"))
    tracked = _train(_config(slices, tmp_path / "tracked", log_to=("mlflow",)))
    assert (plain / "manifest.json").read_bytes() == (tracked / "manifest.json").read_bytes()


def test_a_missing_package_is_a_line_before_training(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as Python says "not installed"
    with pytest.raises(InputError) as error:
        _train(_config(slices, tmp_path / "model", log_to=("wandb",)))
    assert str(error.value) == "--log-to wandb needs Weights & Biases: pip install 'lungforge[wandb]'"


@pytest.mark.parametrize(("tracker", "variable"), [("mlflow", "MLFLOW_TRACKING_URI"), ("wandb", "WANDB_DIR")])
def test_a_model_on_s3_needs_another_place_for_the_files(
    tracker: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        InputError, match=rf"--log-to {tracker} cannot keep its files in s3://.*; set {variable}"
    ):
        targets_of([tracker], "s3://lab/model", "a" * 64, OPTIONS, 30)
    monkeypatch.setenv(variable, "/shared/runs")
    (target,) = targets_of([tracker], "s3://lab/model", "a" * 64, OPTIONS, 30)
    assert (target.place, target.title) == ("/shared/runs", "model")
    assert target.options == {"steps": 30, "network.base_channels": 32}


def test_a_secret_in_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:dont-print-me@host")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI has a user name or password") as error:
        targets_of(["mlflow"], "/lab/model", "a" * 64, OPTIONS, 30)
    assert "dont-print-me" not in str(error.value)


def test_a_run_is_that_of_its_work_in_its_folder() -> None:
    def name(folder: str, work: str) -> str:
        return targets_of(["mlflow"], folder, work, OPTIONS, 30)[0].run

    assert name("/lab/model", "a") == name("/lab/model", "a")
    assert len({name("/lab/model", "a"), name("/lab/model", "b"), name("/lab/other", "a")}) == 3


class _Failing:
    """A tracker whose server goes away."""

    def __init__(self, target: Target) -> None:
        self.calls = 0

    def step(self, done: int, metrics: Any) -> None:
        raise ConnectionError("gone: https://me:dont-print-me@host")


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(thread, "_make", _Failing)
    tracker = TrackerThread(Target("mlflow", "/x", "r", "t", {}, 5000))
    for done in range(1, 5001):
        tracker.step(done, {"loss": 1.0})
    tracker.close(failed=False)
    assert capsys.readouterr().err == "no more metrics for mlflow: ConnectionError: gone: https://host\n"


def test_a_server_that_never_answers_costs_the_training_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(thread, "_make", lambda target: (answer.wait(), MagicMock())[1])
    monkeypatch.setattr(thread, "_PATIENCE_S", 0.1)
    tracker = TrackerThread(Target("wandb", "/x", "r", "t", {}, 50_000))
    for done in range(1, 50_001):
        tracker.step(done, {"loss": 1.0})
    tracker.close(failed=False)
    answer.set()
    assert capsys.readouterr().err == "wandb is too slow; its last metrics are left out\n"


def test_previews_are_passed_on(slices: str, tmp_path: Path) -> None:
    out = _train(_config(slices, tmp_path / "model", log_to=("mlflow",), preview_every=20))
    (run,) = _mlflow_runs(out)
    images = MlflowClient(tracking_uri=f"file://{out}/mlruns").list_artifacts(run.info.run_id, "images")
    assert any("preview" in image.path for image in images)
    assert run.data.tags[TAG]

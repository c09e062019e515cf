"""The loop without Ray: interrupted and resumed, it gives the same bytes."""

import dataclasses
import io
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.datasets.shuffling import RowStream
from lungforge.datasets.slices import SliceRow, index_rows
from lungforge.errors import AccessError, InputError
from lungforge.models.learner import DivergedError, Learner
from lungforge.models.model_dataset import ModelDetails
from lungforge.models.posthoc import read_snapshots
from lungforge.models.sdm.config import DiffusionOptions
from lungforge.models.sdm.error_bands import BANDS
from lungforge.models.sdm.learner import DiffusionLearner
from services.train import divergence, loop, worker
from services.train.checkpoints import history_tensor
from services.train.config import TrainConfig
from services.train.loop import train
from services.train.presets import tiny
from services.train.run import TrainingRun, prepare
from services.train.worker import Report, Stop

pytestmark = pytest.mark.usefixtures("one_thread")


class _Killed(BaseException):
    """Stands for a process that ends at this point."""


#: The smallest networks of both kinds.
SMALL = {
    "sdm": {"channel_multipliers": (1,), "attention_sizes": ()},
    "gaugan": {"channel_multipliers": (2, 1), "latent_channels": 4},
}


def _config(slices: str, out: Path, model: str = "sdm", **changes) -> TrainConfig:
    preset = tiny(slices, str(out), model)
    network = dataclasses.replace(preset.network, **SMALL[model])
    small = dataclasses.replace(preset, network=network, batch=4, steps=9, checkpoint_every=2)
    return dataclasses.replace(small, **changes)


def _train(
    config: TrainConfig,
    report: Report = lambda done, metrics: None,
    stop: Stop = lambda: False,
) -> int:
    return train(_prepared(config), report, stop=stop)


def _prepared(config: TrainConfig) -> TrainingRun:
    data = Dataset.open(config.data)
    writer = DatasetWriter(
        uri=config.out, kind=Kind.MODEL, config=identity(config), seed=config.seed, parents=(data.parent(),)
    )
    return prepare(config, data, writer)


def _kill_after(steps: int) -> Report:
    def report(done: int, metrics: dict[str, float]) -> None:
        if metrics and done == steps:
            raise _Killed

    return report


@pytest.fixture(scope="module", params=["sdm", "gaugan"])
def model(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def unbroken(slices: str, model: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("unbroken")
    assert _train(_config(slices, out, model)) == 9
    return (out / "manifest.json").read_bytes()


def test_the_model_says_what_it_was_made_from(slices: str, model: str, unbroken: bytes) -> None:
    manifest = json.loads(unbroken)
    assert manifest["kind"] == "model"
    assert [(parent["kind"], parent["sha256"]) for parent in manifest["parents"]] == [
        ("slices", Dataset.open(slices).manifest_sha256)
    ]
    details = manifest["details"]
    assert details["series_uids"] == [f"scan-{scan}" for scan in range(5)]
    assert details["model"] == model
    assert (details["rows"], details["size"], details["classes"], details["steps"]) == (20, 16, 6, 9)
    assert {part["path"].split("/")[1] for part in manifest["parts"]} == {
        "model.safetensors",
        "config.json",
        "history.json",
    }


@pytest.mark.parametrize("killed_after", [1, 2, 5, 9])
def test_killed_and_run_again_equals_unbroken(
    slices: str, tmp_path: Path, model: str, unbroken: bytes, killed_after: int
) -> None:
    config = _config(slices, tmp_path / "model", model)
    with pytest.raises(_Killed):
        _train(config, _kill_after(killed_after))
    first: list[int] = []
    _train(config, lambda done, metrics: first.append(done))
    # From the last checkpoint that was written before the kill, not from the start.
    assert first[0] == (killed_after - 1) // 2 * 2
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


@pytest.mark.parametrize("every", [4, 100])
def test_reading_metrics_back_less_often_changes_nothing(
    slices: str, tmp_path: Path, model: str, unbroken: bytes, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "steps_between_reads", lambda device: every)
    reads: list[int] = []
    read = Learner.read
    monkeypatch.setattr(Learner, "read", lambda *given: reads.append(len(given[1])) or read(*given))
    config = _config(slices, tmp_path / "model", model, checkpoint_every=5)
    with pytest.raises(_Killed):
        _train(config, _kill_after(7))
    _train(config)
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken
    # Up to the checkpoint, which is read before it is kept; the kill is in the middle of what was read last.
    assert [count for count in reads if count] == {4: [4, 1, 3, 3, 1], 100: [5, 4, 4]}[every]
    events = _events(tmp_path / "model")
    for name, values in _history(tmp_path / "model").items():
        scalars = events.Scalars(f"train/{name}")
        assert [scalar.step for scalar in scalars] == list(range(1, 10))
        assert np.allclose([scalar.value for scalar in scalars], values, rtol=1e-5)


@pytest.mark.parametrize("killed_after", [5, 8])
def test_kept_averages_are_the_same_after_a_kill(slices: str, tmp_path: Path, killed_after: int) -> None:
    whole = _config(slices, tmp_path / "whole", keep_averages=True)
    _train(whole)
    broken = _config(slices, tmp_path / "broken", keep_averages=True)
    with pytest.raises(_Killed):
        _train(broken, _kill_after(killed_after))
    _train(broken)
    manifest = (tmp_path / "whole" / "manifest.json").read_bytes()
    assert (tmp_path / "broken" / "manifest.json").read_bytes() == manifest
    Dataset.open(whole.out).verify()
    Dataset.open(broken.out).verify()


def test_keeping_averages_leaves_the_model_as_it_is(slices: str, tmp_path: Path, unbroken: bytes) -> None:
    name = json.loads(unbroken)["details"]["model"]
    config = _config(slices, tmp_path / "model", name, keep_averages=True)
    _train(config)
    model = Dataset.open(config.out)
    weights = {part["path"]: part["sha256"] for part in json.loads(unbroken)["parts"]}
    assert {part.path: part.sha256 for part in model.parts}.items() >= weights.items()
    snapshots = read_snapshots(model)
    assert [(each.updates, each.length) for each in snapshots] == [
        (updates, length) for updates in (2, 4, 5, 7, 8, 9) for length in (0.05, 0.1)
    ]
    # The last one of the model's own length is the model itself, rounded.
    averaged = load(model.read_file("model.safetensors"))
    last = load(model.read_file(snapshots[-1].part.name))
    for key, value in averaged.items():
        assert last[key].dtype == torch.float16
        assert torch.equal(last[key], value.half())


def test_a_snapshot_that_has_gone_sends_training_back_before_it(
    slices: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _config(slices, tmp_path / "whole", keep_averages=True)
    _train(whole)
    config = _config(slices, tmp_path / "model", keep_averages=True)
    with pytest.raises(_Killed):
        _train(config, _kill_after(7))
    (gone,) = (tmp_path / "model").glob("files-*/average-00000005-0.1.safetensors")
    gone.unlink()
    first: list[int] = []
    _train(config, lambda done, metrics: first.append(done))
    assert first[0] == 4
    assert f"{gone.name}: gone or altered since it was written; going back" in capsys.readouterr().err
    assert (tmp_path / "model" / "manifest.json").read_bytes() == (
        tmp_path / "whole" / "manifest.json"
    ).read_bytes()


def test_a_damaged_checkpoint_is_passed_over(
    slices: str, tmp_path: Path, model: str, unbroken: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(slices, tmp_path / "model", model)
    with pytest.raises(_Killed):
        _train(config, _kill_after(7))
    folders = sorted((tmp_path / "model" / "checkpoints").glob("*/step-*"))
    assert [folder.name for folder in folders[-2:]] == ["step-00000004", "step-00000006"]
    weights = next(folders[-1].glob("*_second_moments.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    first: list[int] = []
    _train(config, lambda done, metrics: first.append(done))
    assert first[0] == 4
    assert f"{weights.name}: altered since it was written" in capsys.readouterr().err
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


def test_an_incomplete_checkpoint_is_ignored(
    slices: str, tmp_path: Path, model: str, unbroken: bytes
) -> None:
    config = _config(slices, tmp_path / "model", model)
    with pytest.raises(_Killed):
        _train(config, _kill_after(5))
    newest = sorted((tmp_path / "model" / "checkpoints").glob("*/step-*"))[-1]
    (newest / "checkpoint.json").unlink()
    _train(config)
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


def _kept(out: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in out.glob("checkpoints/*/step-*"))


def test_the_newest_checkpoints_are_kept_and_one_that_is_known_to_be_good(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(_config(slices, tmp_path / "model", keep=1))
    assert _kept(tmp_path / "model") == [2, 8]
    # A rise of the loss is seen up to twice the watched steps after it began.
    monkeypatch.setattr(divergence, "WATCH_STEPS", 2)
    _train(_config(slices, tmp_path / "watched", keep=1))
    assert _kept(tmp_path / "watched") == [4, 6, 8]


def test_stopped_it_saves_the_step_and_resumes_from_there(
    slices: str, tmp_path: Path, model: str, unbroken: bytes
) -> None:
    config = _config(slices, tmp_path / "model", model, checkpoint_every=100)
    done: list[int] = []
    assert _train(config, lambda steps, metrics: done.append(steps), stop=lambda: done[-1] == 5) == 5
    assert _kept(tmp_path / "model") == [5]
    first: list[int] = []
    assert _train(config, lambda steps, metrics: first.append(steps)) == 9
    assert first[0] == 5
    assert (tmp_path / "model" / "manifest.json").read_bytes() == unbroken


def _history(out: Path) -> dict[str, list[float]]:
    return json.loads(Dataset.open(str(out)).read_file("history.json"))


def _events(model: Path) -> EventAccumulator:
    """What TensorBoard reads, of files in the order that they were begun.

    It goes by name, where two runs within a second differ by a counter of the process only: 10 before 9.
    """
    folder = model / "in order"
    folder.mkdir()
    begun = sorted(
        (model / "tensorboard").iterdir(), key=lambda path: [*map(int, re.findall(r"\d+", path.name))]
    )
    for place, path in enumerate(begun):
        (folder / f"tfevents.{place:02d}").write_bytes(path.read_bytes())
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def test_gradient_accumulation_changes_nothing_but_rounding(slices: str, tmp_path: Path, model: str) -> None:
    _train(_config(slices, tmp_path / "whole", model))
    _train(_config(slices, tmp_path / "accumulated", model, gradient_accumulation=4))
    whole, accumulated = _history(tmp_path / "whole"), _history(tmp_path / "accumulated")
    for name in whole:
        assert np.allclose(whole[name], accumulated[name], rtol=1e-3, atol=1e-5), name


def test_checkpointing_activations_changes_nothing_but_rounding(slices: str, tmp_path: Path) -> None:
    _train(_config(slices, tmp_path / "kept", steps=4))
    _train(
        _config(slices, tmp_path / "twice", steps=4, learner=DiffusionOptions(activation_checkpointing=True))
    )
    kept, twice = _history(tmp_path / "kept"), _history(tmp_path / "twice")
    assert np.allclose(kept["loss"], twice["loss"], rtol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.slow
def test_compiling_changes_nothing_but_rounding(slices: str, tmp_path: Path) -> None:
    _train(_config(slices, tmp_path / "plain", steps=3))
    _train(_config(slices, tmp_path / "compiled", steps=3, learner=DiffusionOptions(compile=True)))
    plain, compiled = _history(tmp_path / "plain"), _history(tmp_path / "compiled")
    assert np.allclose(plain["loss"], compiled["loss"], rtol=1e-5)


def test_bfloat16_follows_float32(slices: str, tmp_path: Path, model: str) -> None:
    _train(_config(slices, tmp_path / "float32", model, steps=6))
    _train(_config(slices, tmp_path / "bfloat16", model, steps=6, precision="bfloat16"))
    full, half = _history(tmp_path / "float32"), _history(tmp_path / "bfloat16")
    name = next(iter(full))
    assert full[name] != half[name]
    assert np.allclose(full[name], half[name], rtol=0.05)


def test_metrics_and_pictures_can_be_watched(slices: str, tmp_path: Path, model: str) -> None:
    config = _config(slices, tmp_path / "model", model, preview_every=5, checkpoint_every=4)
    with pytest.raises(_Killed):
        _train(config, _kill_after(6))
    _train(config)
    events = _events(tmp_path / "model")
    history = _history(tmp_path / "model")
    for name, values in history.items():
        scalars = events.Scalars(f"train/{name}")
        # Those that were taken back after the kill are there once.
        assert [scalar.step for scalar in scalars] == list(range(1, 10))
        assert np.allclose([scalar.value for scalar in scalars], values, rtol=1e-5)
    rates = [scalar.value for scalar in events.Scalars("train/images_per_second")]
    assert all(rate > 0 for rate in rates)
    assert all(0 <= scalar.value <= 1 for scalar in events.Scalars("train/waiting_share"))
    (picture,) = events.Images("preview")
    assert picture.step == 5
    with Image.open(tmp_path / "model" / "previews" / "step-00000005.png") as preview:
        assert np.array_equal(
            np.asarray(preview), np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
        )


@pytest.mark.parametrize("refused", ["checkpoints", "previews"])
def test_a_store_that_refuses_stops_training_with_its_name(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(uri: str, data: bytes, **options: bool) -> None:
        raise AccessError(f"{uri}: access denied (403); check the policy of the bucket")

    module = {"checkpoints": "services.train.checkpoints", "previews": "services.train.worker"}[refused]
    monkeypatch.setattr(f"{module}.write_bytes_atomic", refuse)
    with pytest.raises(AccessError, match=rf"/{refused}/.*access denied \(403\); check the policy"):
        _train(_config(slices, tmp_path / "model", preview_every=2, steps=40))
    assert not (tmp_path / "model" / "manifest.json").exists()
    assert not list((tmp_path / "model").glob(f"{refused}/**/*.*"))


def test_a_store_that_is_away_is_no_fault_of_the_input(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: RowStream, step: int) -> list[SliceRow]:
        if step == 3:
            raise AccessError("s3://lab/slices: timed out")
        return rows(self, step)

    rows = RowStream.rows
    monkeypatch.setattr(RowStream, "rows", fail)
    with pytest.raises(AccessError, match="s3://lab/slices: timed out"):
        _train(_config(slices, tmp_path / "model"))
    assert not (tmp_path / "model" / "manifest.json").exists()
    monkeypatch.undo()
    first: list[int] = []
    assert _train(_config(slices, tmp_path / "model"), lambda done, metrics: first.append(done)) == 9
    assert first[0] == 2, "the checkpoint before is there"


def test_a_run_of_other_settings_does_not_resume_from_here(
    slices: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(_Killed):
        _train(_config(slices, tmp_path / "model"), _kill_after(5))
    first: list[int] = []
    assert "none to resume from" not in capsys.readouterr().err
    _train(_config(slices, tmp_path / "model", learning_rate=2e-3), lambda done, metrics: first.append(done))
    assert first[0] == 0
    assert "model has checkpoints, but none to resume from: they are of other" in capsys.readouterr().err


def test_the_model_states_the_errors_at_the_end(slices: str, tmp_path: Path) -> None:
    _train(_config(slices, tmp_path / "sdm"))
    history = _history(tmp_path / "sdm")
    details = ModelDetails.of(Dataset.open(str(tmp_path / "sdm")).manifest)
    assert details.final_metrics == {name: pytest.approx(history[name][-1], rel=1e-3) for name in BANDS}
    _train(_config(slices, tmp_path / "gaugan", "gaugan", steps=1))
    assert "final_metrics" not in Dataset.open(str(tmp_path / "gaugan")).manifest.details


def test_a_checkpoint_of_a_version_that_recorded_less_is_refused(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_errors(history: worker.History, columns: int) -> Tensor:
        return history_tensor(history, columns)[:, [0, 1, 2, -1]]

    monkeypatch.setattr(worker, "history_tensor", without_errors)
    config = _config(slices, tmp_path / "model")
    with pytest.raises(_Killed):
        _train(config, _kill_after(3))
    monkeypatch.undo()
    with pytest.raises(
        InputError, match=r"checkpoints have 4 metrics a step and .* records 5; .*another --out"
    ):
        _train(config)


def test_divergence_stops_with_advice(slices: str, tmp_path: Path) -> None:
    config = _config(slices, tmp_path / "model", learning_rate=1e20, warmup_steps=0, checkpoint_every=1)
    with pytest.raises(DivergedError) as error:
        _train(config)
    assert "training diverged at step 2: loss" in str(error.value)
    assert "the checkpoint of step 1 is kept" in str(error.value)
    assert "lower --learning-rate" in str(error.value)
    assert not (tmp_path / "model" / "manifest.json").exists()
    assert len(list((tmp_path / "model" / "checkpoints").glob("*/step-00000001/checkpoint.json"))) == 1


@pytest.mark.parametrize("name", ["loss", "error_high_noise_hu"])
def test_what_must_not_rise_stops_training_and_names_the_last_good_checkpoint(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(divergence, "WATCH_STEPS", 5)
    read, steps = DiffusionLearner.metrics, itertools.count()

    def turn(self: DiffusionLearner, measured: list[float]) -> list[float]:
        metrics, step = read(self, measured), next(steps)
        for watched in self.WATCHED:
            metrics[self.METRICS.index(watched)] = 10.0 if watched == name and step >= 18 else 1.0
        return metrics

    monkeypatch.setattr(DiffusionLearner, "metrics", turn)
    config = _config(slices, tmp_path / "model", steps=60, checkpoint_every=1, keep=2)
    with pytest.raises(DivergedError) as error:
        _train(config)
    # Two of the steps to 20 are high, all of the next five are.
    assert f"the {name} rose to 10 (median of the 5 steps to step 25) and was 1;" in str(error.value)
    assert "the checkpoint of step 9 is kept" in str(error.value)
    assert 9 in _kept(tmp_path / "model")


def test_noise_prediction_learns(slices: str, tmp_path: Path) -> None:
    changes = {"learner": dataclasses.replace(tiny("a", "b").learner, objective="eps"), "decay": 0.0}
    changes |= {"steps": 60, "checkpoint_every": 1000, "preview_every": 60, "warmup_steps": 10}
    config = _config(slices, tmp_path / "model", **changes)
    _train(config)
    history = json.loads(Dataset.open(config.out).read_file("history.json"))
    assert {name: len(values) for name, values in history.items()} == {
        "loss": 60,
        "mse": 60,
        "vb": 60,
        **dict.fromkeys(BANDS, 60),
        "gradient_norm": 60,
    }
    assert np.allclose(np.add(history["mse"], history["vb"]), history["loss"])
    # Zero-initialised, the network predicts no noise: an error of 1, to begin with.
    assert history["mse"][0] == pytest.approx(1, abs=0.1)
    assert np.mean(history["loss"][-10:]) < 0.5
    picture = (tmp_path / "model" / "previews" / "step-00000060.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_edm_learns_and_killed_and_run_again_equals_unbroken(slices: str, tmp_path: Path) -> None:
    changes = {"steps": 60, "checkpoint_every": 20, "warmup_steps": 10, "decay": 0.5}
    _train(_config(slices, tmp_path / "unbroken", **changes))
    config = _config(slices, tmp_path / "killed", **changes)
    with pytest.raises(_Killed):
        _train(config, _kill_after(33))
    _train(config)
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("unbroken", "killed")]
    assert manifests[0] == manifests[1]
    history = _history(tmp_path / "killed")
    assert set(history) == {"loss", *BANDS, "gradient_norm"}
    # Zero-initialised, the network gives zeros: an error of 1 at every level of noise.
    assert history["loss"][0] == pytest.approx(1, abs=0.3)
    assert np.mean(history["loss"][-10:]) < 0.7
    network = json.loads(Dataset.open(config.out).read_file("config.json"))["network"]
    images = [row.image for row in index_rows(Dataset.open(slices)).read(range(20))]
    pixels = np.clip((np.stack(images) + 300) / 700, -1, 1)
    assert network["objective"] == "edm"
    assert network["pixel_mean"] == pytest.approx(pixels.mean(), abs=1e-4)
    assert network["pixel_spread"] == pytest.approx(pixels.std(), abs=1e-4)


def test_the_learning_rate_rises_stays_and_falls(slices: str, tmp_path: Path) -> None:
    config = _config(slices, tmp_path / "model", steps=10, warmup_steps=2, decay=0.4)
    learner = _prepared(config).make_learner(distribute=lambda m: m, averages=False)
    rates = [learner.rate(1.0, step) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_what_does_not_fit_is_refused_before_training(slices: str, wide_slices: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no rows of the subsets \[7\]"):
        _train(_config(slices, tmp_path, subsets=(7,)))
    with pytest.raises(InputError, match="--patch is 32 and the images are 16 x 16"):
        _train(_config(slices, tmp_path, patch=32))
    network = dataclasses.replace(_config(wide_slices, tmp_path).network, attention_sizes=(16,))
    with pytest.raises(
        InputError,
        match=r"no network for the images of 48 px .*--network.attention-sizes has 16.*preprocess --size N",
    ):
        _train(_config(wide_slices, tmp_path, network=network))
    assert not (tmp_path / "checkpoints").exists()

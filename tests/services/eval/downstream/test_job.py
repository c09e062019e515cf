"""The downstream tasks under Ray: refusals, and networks that die."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import InputError
from services.eval.config import EvalConfig
from services.eval.downstream.job import prepare, run
from services.eval.downstream.results import DownstreamResults
from services.eval.report.verdict import downstream_sentences

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def _run(world: Path, out: Path, **changes: Any) -> DownstreamResults:
    plain: dict[str, Any] = {
        "real": str(world / "slices"),
        "synthetic": (str(world / "drawn"),),
        "out": str(out),
        "downstream": "tiny",
        "train_subsets": (0, 1, 2),
        "subsets": (3,),
        "seeds": 1,
        "workers": 2,
    }
    config = EvalConfig(**(plain | changes))
    sets = {"drawn": Dataset.open(config.synthetic[0])}
    writer = DatasetWriter(uri=config.out, kind=Kind.REPORT, config={}, seed=0)
    real = Dataset.open(config.real)
    data = prepare(config, None, real, sets)
    results, parts = run(config, None, real, data, list(sets), writer)
    assert all((out / part.path).stat().st_size == part.bytes for part in parts)
    return results


@pytest.fixture(scope="module")
def unbroken(world, tmp_path_factory, ray_local) -> tuple[Path, DownstreamResults]:
    out = tmp_path_factory.mktemp("downstream") / "unbroken"
    return out, _run(world, out)


def test_every_arm_is_in_both_tables(unbroken) -> None:
    _, results = unbroken
    assert [task.task for task in results.tasks] == ["classification", "localisation"]
    for task in results.tasks:
        assert [arm.key for arm in task.arms] == [
            "real",
            "classic",
            "duplicates-1x",
            "set0-1x",
            "set0-only",
        ]
        assert task.networks_per_arm == 1
        assert task.not_measured is not None
        assert task.validation_scans == (2,)
    assert len(list(downstream_sentences(results, ["drawn"]))) == 2
    # Two slices of each scan, of which two validate.
    pictures = [arm.training_pictures for arm in results.tasks[1].arms]
    assert pictures == [(14,), (14,), (28,), (28,), (14,)]


def test_a_network_that_dies_and_a_job_run_again_change_nothing(world, unbroken, tmp_path: Path) -> None:
    out = tmp_path / "again"
    first, results = unbroken
    # As a killed driver leaves it: some of the files, one of them damaged.
    files = sorted(first.glob("runs-*/*.json"))
    assert len(files) == 10
    folder = out / files[0].parent.name
    folder.mkdir(parents=True)
    for number, file in enumerate(files[:6]):
        (folder / file.name).write_bytes(file.read_bytes()[: -5 if number == 0 else None])
    kept = {file.name: (folder / file.name).stat().st_mtime_ns for file in files[1:6]}
    killed = threading.Event()

    def kill_one() -> None:
        while not killed.wait(0.01):
            for process in _networks():
                os.kill(process, signal.SIGKILL)
                killed.set()
                return

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    again = _run(world, out)
    assert killed.is_set()
    assert again == results
    assert {file.name: (folder / file.name).stat().st_mtime_ns for file in files[1:6]} == kept
    assert [(folder / file.name).read_bytes() for file in files] == [file.read_bytes() for file in files]


def _networks() -> list[int]:
    """Processes of this machine's Ray that train a network now."""
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::train_network"):
                processes.append(int(folder.name))
        except OSError:
            continue
    return processes


def test_crops_of_one_class_are_refused_before_any_network(world, build, tmp_path: Path) -> None:
    # Samples of 32 px around the nodule: no crop beside it.
    slices = Dataset.open(str(world / "slices"))
    model = Dataset.open(str(world / "model"))
    build["samples"](str(tmp_path / "small"), slices, model, build["drawn"], patch=32)
    config = EvalConfig(
        real=slices.uri,
        synthetic=(str(tmp_path / "small"),),
        out=str(tmp_path / "out"),
        downstream="tiny",
        train_subsets=(0, 1, 2),
        subsets=(3,),
    )
    with pytest.raises(InputError, match="small: there is no crop without a nodule"):
        prepare(config, None, slices, {"small": Dataset.open(str(tmp_path / "small"))})

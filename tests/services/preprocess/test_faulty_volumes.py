"""Volumes that kill their workers, or raise what nobody foresaw; and what a refusal stops."""

import ctypes
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray import cloudpickle

from lungforge.ct.phantoms.generate import phantom_series_uid, write_phantoms
from lungforge.datasets import Dataset
from lungforge.errors import AccessError, InputError
from services.common.ray_tasks import MAX_DEATHS
from services.preprocess import job
from services.preprocess.config import PreprocessConfig
from services.preprocess.plan import VolumePlan
from services.preprocess.survey import SourceVolume
from services.preprocess.volume import VolumeOutcome, VolumeTask

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

SERIES, SIZE, SLICES = 6, 64, 12
UIDS = [phantom_series_uid(4, index, size=SIZE, slices=SLICES) for index in range(SERIES)]
BAD = UIDS[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("luna16")
    write_phantoms(str(folder), series=SERIES, seed=4, size=SIZE, slices=SLICES)
    return folder


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """The functions of this module go to the workers by value: they cannot import it."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def config(source: Path, tmp_path: Path) -> PreprocessConfig:
    return PreprocessConfig(str(source), str(tmp_path / "out"), size=32, slices="all")


def with_fault(monkeypatch: pytest.MonkeyPatch, begun: Path, fault: Callable[[str], None]) -> None:
    """Let the workers meet a fault when they read a volume; ``begun`` gets the uid of each that they try."""

    class Faulty(VolumeTask):
        def _make(self, volume: SourceVolume, plan: VolumePlan, outcome: VolumeOutcome) -> VolumeOutcome:
            with begun.open("a", encoding="utf-8") as file:
                file.write(f"{volume.entry.series_uid}\n")
            fault(volume.entry.series_uid)
            return VolumeTask._make(self, volume, plan, outcome)

    monkeypatch.setattr(job, "VolumeTask", Faulty)


def crash(uid: str) -> None:
    """As a library does that writes where it may not."""
    if uid == BAD:
        ctypes.string_at(0)


def leave(uid: str) -> None:
    """As if the kernel took the process, for its memory."""
    if uid == BAD:
        os._exit(1)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [leave, crash])
def test_a_volume_that_kills_its_workers_is_rejected_and_the_rest_is_used(
    config: PreprocessConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[str], None],
) -> None:
    with_fault(monkeypatch, tmp_path / "begun", fault)
    result = job.run(config)
    (rejected,) = result.rejected
    uri = f"{config.source}/subset1/{BAD}.mhd"
    reason = f"{MAX_DEATHS} workers died while they read it (a library crashed, or memory ran out)"
    assert rejected == {"series_uid": BAD, "reason": f"{uri}: {reason}"}
    assert (result.volumes, result.slices) == (SERIES - 1, (SERIES - 1) * SLICES)
    said = capsys.readouterr().err
    assert said.count(f"a worker died at {BAD}; another one takes it over\n") == MAX_DEATHS - 1
    assert f"rejected: {BAD}: {uri}: {reason}\n" in said
    # It is not read once more, as volumes are that look damaged.
    begun = (tmp_path / "begun").read_text("utf-8").split()
    assert sorted(begun) == sorted([*UIDS, *[BAD] * (MAX_DEATHS - 1)])
    assert begun[-3:] == [BAD] * 3  # behind the others
    monkeypatch.undo()
    with_fault(monkeypatch, tmp_path / "again", lambda uid: None)
    assert job.run(dataclasses.replace(config, retry_rejected=True)).volumes == SERIES


def test_a_worker_that_dies_once_costs_nothing(
    config: PreprocessConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def once(uid: str) -> None:
        if uid == BAD and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)

    with_fault(monkeypatch, tmp_path / "begun", once)
    assert job.run(config).rejected == ()
    assert (tmp_path / "died").exists()
    assert Dataset.open(config.out).rows == SERIES * SLICES


def test_what_nobody_foresaw_of_a_volume_is_its_rejection(
    config: PreprocessConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def divide(uid: str) -> None:
        if uid == BAD:
            raise ZeroDivisionError("division\nby zero")

    with_fault(monkeypatch, tmp_path / "begun", divide)
    (rejected,) = job.run(config).rejected
    assert rejected == {
        "series_uid": BAD,
        "reason": "it cannot be processed (ZeroDivisionError: division by zero)",
    }


@pytest.mark.parametrize("error", [AccessError, InputError])
def test_a_refusal_stops_the_others_at_once(
    config: PreprocessConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[Exception]
) -> None:
    monkeypatch.setattr("services.preprocess.volume.PAUSES_S", ())

    def refuse(uid: str) -> None:
        while uid == UIDS[1] or UIDS[1] not in (tmp_path / "begun").read_text("utf-8"):
            threading.Event().wait(0.01)
        raise error("the store says no")

    with_fault(monkeypatch, tmp_path / "begun", refuse)
    with pytest.raises(error, match=r"^the store says no$"):
        job.run(config)
    assert set((tmp_path / "begun").read_text("utf-8").split()) == set(UIDS[:2])
    assert not (Path(config.out) / "manifest.json").exists()


@pytest.mark.slow
def test_where_every_volume_kills_its_workers_the_job_says_so(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_fault(monkeypatch, tmp_path / "begun", lambda uid: os._exit(1))
    config = PreprocessConfig(str(source), str(tmp_path / "out"), size=32, subsets=(1,))
    with pytest.raises(InputError, match=rf"no good volume; the first of 1: {BAD}: .*: 4 workers died"):
        job.run(config)

"""The seam between a job and Ray: without Ray the same work is done in this process."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lungforge.errors import ContentError, InputError
from services.common import telemetry
from services.common.needs import Needs
from services.common.workers import work_on_items, work_session


def _adder() -> Any:
    """A worker that adds a number to each item; it leaves a file for its process, and one for each item."""

    class Adder:  # local, so that it is pickled by value: workers cannot import this module
        def __init__(self, folder: Path, added: int) -> None:
            self.folder, self.added = folder, added
            (folder / f"made-{os.getpid()}").touch()

        def add(self, item: int) -> tuple[int, int]:
            (self.folder / f"begun-{item}").touch()
            if item < 0:
                raise ContentError(f"{item} is below 0")
            return item, item + self.added

    return Adder


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python says "not installed"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def _added(folder: Path, items: list[int]) -> list[tuple[int, int]]:
    kind = _adder()
    return list(
        work_on_items(
            kind.add,
            items,
            kind,
            (folder, 10),
            2,
            need=Needs(cpus=0),
            service="sample",
            name_of=lambda item: f"item {item}",
        )
    )


@pytest.mark.usefixtures("no_ray")
def test_one_worker_in_this_process_does_all_items_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with work_session(2, Needs(gpus=1)):
        assert _added(tmp_path, [3, 1, 2]) == [(3, 13), (1, 11), (2, 12)]
    assert [path.name for path in tmp_path.glob("made-*")] == [f"made-{os.getpid()}"]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Ray is not installed: working in this process\n")


@pytest.mark.usefixtures("no_ray")
def test_what_an_item_raises_ends_the_work_in_this_process(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"^-5 is below 0$"), work_session():
        _added(tmp_path, [1, -5, 2])
    assert sorted(path.name for path in tmp_path.glob("begun-*")) == ["begun--5", "begun-1"]


@pytest.mark.usefixtures("no_ray")
def test_a_cluster_cannot_be_joined_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(InputError) as raised:
        work_session().__enter__()
    assert str(raised.value) == (
        "the cluster that RAY_ADDRESS names (unset it to work in this process) needs Ray: "
        "pip install 'lungforge[ray]'"
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_with_ray_other_processes_do_the_same(tmp_path: Path) -> None:
    with work_session(2, Needs(cpus=0)):
        assert sorted(_added(tmp_path, [3, 1, 2])) == [(1, 11), (2, 12), (3, 13)]
    assert f"made-{os.getpid()}" not in [path.name for path in tmp_path.glob("made-*")]


def test_what_nobody_scrapes_is_counted_by_nothing() -> None:
    counter = telemetry._Uncounted("name", "What it counts.", ("outcome",))
    counter.inc(1, {"outcome": "done"})
    counter.set(3)

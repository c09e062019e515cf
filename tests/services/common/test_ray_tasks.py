"""The scheduler of tasks and actors: results as they are done, deaths survived, errors without wrappers."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from lungforge.errors import InputError
from services.common import ray_tasks
from services.common.ray_tasks import MAX_DEATHS, run_on_actors, run_tasks
from tests.ray_head import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@ray.remote
def square(value: int) -> int:
    if value < 0:
        raise InputError(f"{value} is below 0; give another")
    return value * value


@ray.remote(num_returns=2)
def square_and_list(value: int) -> tuple[int, list[int]]:
    return value * value, [value] * 3


def _squarers(folder: Path) -> Callable[[], Callable[[int], Any]]:
    """Starts actors that square numbers, and die of one as often as its file says."""

    class Squarer:  # local, so that it is pickled by value: workers cannot import this module
        def square(self, value: int) -> int:
            if value < 0:
                raise InputError(f"{value} is below 0; give another")
            lives = folder / str(value)
            if lives.exists() and (left := int(lives.read_text("utf-8"))):
                lives.write_text(str(left - 1), "utf-8")
                os.kill(os.getpid(), signal.SIGKILL)
            return value * value

    remote: Any = ray.remote(Squarer)
    return lambda: remote.options(num_cpus=0, max_restarts=0).remote().square.remote


def _on_actors(folder: Path, items: list[int], actors: int = 2, in_flight: int = 1) -> dict[int, int]:
    done = run_on_actors(
        _squarers(folder),
        items,
        actors,
        service="sample",
        name_of=lambda item: f"item {item}",
        in_flight=in_flight,
    )
    return {each.item: each.result for each in done}


def test_every_item_gives_its_result_and_no_more_than_the_limit_run_at_a_time() -> None:
    running = 0
    most = 0

    def start(value: int) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        return square.options(num_cpus=0).remote(value)

    results = {}
    for done in run_tasks(start, range(7), 3):
        running -= 1
        results[done.item] = done.result
    assert results == {value: value * value for value in range(7)}
    assert most == 3


def test_further_returns_stay_in_the_object_store() -> None:
    (done,) = run_tasks(square_and_list.options(num_cpus=0).remote, [4], 1)
    assert (done.item, done.result) == (4, 16)
    (reference,) = done.kept
    assert isinstance(reference, ray.ObjectRef)
    assert ray.get(reference) == [4, 4, 4]


def test_what_a_task_raises_comes_without_a_wrapper() -> None:
    with pytest.raises(InputError) as caught:
        list(run_tasks(square.options(num_cpus=0).remote, [1, -1], 2))
    assert type(caught.value) is InputError
    assert str(caught.value) == "-1 is below 0; give another"


def test_what_a_task_raises_cancels_what_runs_and_starts_nothing(tmp_path: Path) -> None:
    def work(value: int) -> None:
        (tmp_path / f"begun-{value}").touch()
        if value == 1:
            wait_for(tmp_path / "begun-2")
            raise InputError("the first one")
        try:
            wait_for(tmp_path / "never")
        except KeyboardInterrupt:
            (tmp_path / f"cancelled-{value}").touch()
            raise

    def wait_for(path: Path) -> None:
        while not path.exists():  # Ray interrupts between two waits, but none
            threading.Event().wait(0.01)

    with pytest.raises(InputError, match=r"^the first one$"):
        list(run_tasks(ray.remote(num_cpus=0)(work).remote, range(1, 9), 2))
    wait_until((tmp_path / "cancelled-2").exists, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun-1", "begun-2", "cancelled-2"]


def test_what_an_actor_raises_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^-5 is below 0; give another$"):
        _on_actors(tmp_path, [1, -5, 2])


def test_an_actor_that_dies_is_replaced_and_its_item_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "3").write_text("2", "utf-8")
    assert _on_actors(tmp_path, [1, 2, 3, 4, 5]) == {1: 1, 2: 4, 3: 9, 4: 16, 5: 25}
    assert capsys.readouterr().err.splitlines() == ["a worker died at item 3; another one takes it over"] * 2


def test_an_item_that_takes_down_one_actor_after_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "3").write_text("9", "utf-8")
    with pytest.raises(RuntimeError, match=f"^item 3 took down {MAX_DEATHS} workers"):
        _on_actors(tmp_path, [3, 4], actors=1)


def test_of_several_items_in_flight_the_one_that_takes_down_its_actor_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # One thread an actor: the first item is worked on, and the second waits its turn there.
    (tmp_path / "4").write_text("9", "utf-8")
    with pytest.raises(RuntimeError, match=f"^item 4 took down {MAX_DEATHS} workers"):
        _on_actors(tmp_path, [4, 3, 5, 6], actors=1, in_flight=2)
    # Together once, and from then on alone.
    assert capsys.readouterr().err.splitlines() == [
        "a worker died at item 4, item 3; another one takes it over",
        *["a worker died at item 4; another one takes it over"] * (MAX_DEATHS - 2),
    ]


class _Given:
    """Actors without Ray: notes which items each has, and gives results when they are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most: dict[int, int] = {}
        self.has: dict[int, list[int]] = {}
        monkeypatch.setattr(ray_tasks.ray, "wait", lambda running, num_returns: (running[:1], running[1:]))
        monkeypatch.setattr(ray_tasks, "result_of", self.result)

    def start_actor(self) -> Callable[[int], Any]:
        number = len(self.has)
        self.has[number] = []

        def start(item: int) -> tuple[int, int]:
            self.has[number].append(item)
            self.most[number] = max(self.most.get(number, 0), len(self.has[number]))
            return number, item

        return start

    def result(self, reference: tuple[int, int]) -> int:
        number, item = reference
        self.has[number].remove(item)
        return item * item


@pytest.mark.parametrize(
    ("items", "actors", "most"),
    [(9, 2, {0: 2, 1: 2}), (4, 2, {0: 2, 1: 1}), (3, 2, {0: 2, 1: 1}), (2, 2, {0: 1, 1: 1}), (3, 1, {0: 2})],
)
def test_an_actor_has_two_items_while_there_are_enough_for_all(
    monkeypatch: pytest.MonkeyPatch, items: int, actors: int, most: dict[int, int]
) -> None:
    given = _Given(monkeypatch)
    done = run_on_actors(given.start_actor, range(items), actors, service="sample", name_of=str, in_flight=2)
    assert {each.item: each.result for each in done} == {item: item * item for item in range(items)}
    assert given.most == most

"""One scheduler for Ray tasks and long-lived actors: items in, results out as they are done."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from services.common import telemetry
from services.common.errors import unwrap
from services.common.progress import say

#: Worker deaths after which an item is taken for their cause.
MAX_DEATHS = 4
#: Worker deaths after which the tasks of an item run alone: the next one has no other cause.
_DEATHS_IN_COMPANY = 2
#: What Ray raises of a task when its process or its host died.
_DEATHS = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError)

Item = TypeVar("Item")
#: Starts an item; returns its reference, or a list of them for a task with several returns.
Start = Callable[[Item], Any]


@dataclass(frozen=True)
class Done(Generic[Item]):
    """An item and what it gave.

    Attributes:
        item: The item.
        result: Its first return value.
        kept: References of its other return values, which stay in the object store.
    """

    item: Item
    result: Any
    kept: tuple[Any, ...]


@dataclass(frozen=True)
class TookDown:
    """Instead of a result, of an item of which ``MAX_DEATHS`` workers died.

    Attributes:
        memory: Whether the last of them was ended because the memory of its host ran out.
    """

    memory: bool


class Deaths(Generic[Item]):
    """Counts the workers that died of each item, and says so.

    Args:
        service: Whose retries these are, for the metrics.
        name_of: Names an item in messages.
    """

    def __init__(self, service: telemetry.Service, name_of: Callable[[Item], str]) -> None:
        self._service: telemetry.Service = service
        self._name_of = name_of
        self._of: Counter[str] = Counter()

    def add(self, item: Item) -> int:
        """Count a worker that died of an item; returns how many have."""
        name = self._name_of(item)
        self._of[name] += 1
        if self._of[name] < MAX_DEATHS:
            telemetry.retry(self._service)
            say(f"a worker died at {name}; another one takes it over")
        return self._of[name]


def run_tasks(
    start: Start[Item], items: Iterable[Item], limit: int, *, deaths: Deaths[Item] | None = None
) -> Iterator[Done[Item]]:
    """Run a task for each item, at most ``limit`` at a time.

    When a task raises, or nobody wants further results, nothing new starts and what runs is cancelled.

    Args:
        start: Starts the task of an item; with ``deaths``, one that Ray does not retry (``max_retries=0``).
        items: What there is to do.
        limit: Tasks at a time.
        deaths: Counts worker deaths. An item runs again after each: behind the others, and after the second
            one alone, so that it does not answer for the memory that its neighbours take. After
            ``MAX_DEATHS`` its result is ``TookDown``.

    Yields:
        Items as they are done, in any order.

    Raises:
        Exception: What a task raised, without Ray's wrapper.
    """
    waiting, alone = deque(items), deque[Item]()
    running: dict[Any, tuple[Item, tuple[Any, ...]]] = {}

    def give(item: Item) -> None:
        first, *others = _as_list(start(item))
        running[first] = (item, tuple(others))

    try:
        while waiting or alone or running:
            while waiting and len(running) < limit:
                give(waiting.popleft())
            if not running:
                give(alone.popleft())
            (ready,), _ = ray.wait(list(running), num_returns=1)
            item, kept = running.pop(ready)
            try:
                result = result_of(ready)
            except _DEATHS as error:
                if deaths is None:
                    raise
                count = deaths.add(item)
                if count < MAX_DEATHS:
                    (waiting if count < _DEATHS_IN_COMPANY else alone).append(item)
                    continue
                result = TookDown(memory=isinstance(error, OutOfMemoryError))
            yield Done(item, result, kept)
    finally:
        for reference in running:
            with contextlib.suppress(Exception):  # without Ray there is nothing that runs
                ray.cancel(reference)


def run_on_actors(
    start_actor: Callable[[], Start[Item]],
    items: Iterable[Item],
    actors: int,
    *,
    service: telemetry.Service,
    name_of: Callable[[Item], str],
) -> Iterator[Done[Item]]:
    """Run every item on one of some long-lived actors.

    An actor that dies is replaced, and its item runs again. What an actor raises ends the work: it has
    retried its reads and writes with patience, and the same again would fail again.

    Args:
        start_actor: Starts an actor; returns the function that starts an item on it.
        items: What there is to do.
        actors: How many actors work at a time.
        service: Whose retries these are, for the metrics.
        name_of: Names an item in messages.

    Yields:
        Items as they are done, in any order.

    Raises:
        RuntimeError: ``MAX_DEATHS`` actors died of one item.
        Exception: What an actor raised, without Ray's wrapper.
    """
    waiting = deque(items)
    running: dict[Any, tuple[Item, Start[Item]]] = {}
    deaths = Deaths(service, name_of)

    def give(actor: Start[Item]) -> None:
        item = waiting.popleft()
        running[actor(item)] = (item, actor)

    for _ in range(min(actors, len(waiting))):
        give(start_actor())
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        item, actor = running.pop(ready)
        try:
            result = result_of(ready)
        except RayActorError as error:
            if deaths.add(item) == MAX_DEATHS:
                raise RuntimeError(
                    f"{name_of(item)} took down {MAX_DEATHS} workers; "
                    "if memory ran out, give a smaller --batch or fewer --workers"
                ) from error
            waiting.appendleft(item)
            give(start_actor())
            continue
        if waiting:
            give(actor)
        # An actor without work gives its cores back: the one that replaces another may be waiting for them.
        del actor
        yield Done(item, result, ())


def result_of(reference: Any) -> Any:
    """The value of a reference.

    Raises:
        Exception: What its task raised, without Ray's wrapper.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise unwrap(error) from error


def _as_list(references: Any) -> list[Any]:
    return references if isinstance(references, list) else [references]

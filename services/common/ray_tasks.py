"""One scheduler for Ray tasks and long-lived actors: items in, results out as they are done."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from services.common import telemetry
from services.common.errors import unwrap
from services.common.progress import say

#: Worker deaths after which an item is taken for their cause.
MAX_DEATHS = 4

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


def run_tasks(start: Start[Item], items: Iterable[Item], limit: int) -> Iterator[Done[Item]]:
    """Run a task for each item, at most ``limit`` at a time.

    When a task raises, or nobody wants further results, nothing new starts and what runs is cancelled.

    Args:
        start: Starts the task of an item.
        items: What there is to do.
        limit: Tasks at a time.

    Yields:
        Items as they are done, in any order.

    Raises:
        Exception: What a task raised, without Ray's wrapper.
    """
    waiting = deque(items)
    running: dict[Any, tuple[Item, tuple[Any, ...]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                item = waiting.popleft()
                first, *others = _as_list(start(item))
                running[first] = (item, tuple(others))
            (ready,), _ = ray.wait(list(running), num_returns=1)
            item, kept = running.pop(ready)
            yield Done(item, result_of(ready), kept)
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
    in_flight: int = 1,
) -> Iterator[Done[Item]]:
    """Run every item on one of some long-lived actors.

    An actor that dies is replaced, and its items run again, each alone on an actor: so the one that it died
    of is known. What an actor raises ends the work: it has retried its reads and writes with patience, and
    the same again would fail again.

    Args:
        start_actor: Starts an actor; returns the function that starts an item on it.
        items: What there is to do.
        actors: How many actors work at a time.
        service: Whose retries these are, for the metrics.
        name_of: Names an item in messages.
        in_flight: Items that an actor has at a time, while there are enough for all actors.

    Yields:
        Items as they are done, in any order.

    Raises:
        RuntimeError: ``MAX_DEATHS`` actors died of one item.
        Exception: What an actor raised, without Ray's wrapper.
    """
    waiting = deque(items)
    running: dict[Any, tuple[Item, Start[Item]]] = {}
    deaths: dict[str, int] = {}

    def give(actor: Start[Item]) -> None:
        """Give an actor as many items as it may have."""
        has = [item for item, other in running.values() if other is actor]
        while waiting and len(has) < in_flight:
            suspects = [item for item in (*has, waiting[0]) if name_of(item) in deaths]
            if has and (suspects or len(waiting) < actors):
                return
            has.append(waiting.popleft())
            running[actor(has[-1])] = (has[-1], actor)

    for _ in range(min(actors, len(waiting))):
        give(start_actor())
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        item, actor = running[ready]
        try:
            result = result_of(ready)
        except RayActorError as error:
            lost = {reference: has for reference, (has, its) in running.items() if its is actor}
            for reference, has in lost.items():
                del running[reference]
                name = name_of(has)
                deaths[name] = deaths.get(name, 0) + 1
                if deaths[name] == MAX_DEATHS:
                    raise RuntimeError(
                        f"{name} took down {MAX_DEATHS} workers; "
                        "if memory ran out, give a smaller --batch or fewer --workers"
                    ) from error
            telemetry.retry(service)
            names = ", ".join(map(name_of, lost.values()))
            say(f"a worker died at {names}; another one takes it over")
            waiting.extendleft(reversed(lost.values()))
            give(start_actor())
            continue
        del running[ready]
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

"""Numbered units of work given out to long-lived actors, which are replaced when they die."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayActorError

from services.common import telemetry
from services.common.progress import say

#: How often a unit may take its worker down before it is taken for the cause.
TRIES = 4


def distribute(
    units: int, workers: int, start_worker: Callable[[], Any], name_of: Callable[[int], str]
) -> Iterator[Any]:
    """Have every unit done by some worker.

    A worker that dies is replaced, and its unit done again. What a worker raises ends the work: it has read
    and written with patience, and the same again would fail again.

    Args:
        units: How many there are; each is known by its number.
        workers: How many actors work at a time.
        start_worker: Starts an actor; its ``draw(number)`` does a unit.
        name_of: The name of a unit, for messages.

    Yields:
        What ``draw`` returned, as the units are done, in any order.

    Raises:
        RuntimeError: A unit took down ``TRIES`` workers.
    """
    waiting = deque(range(units))
    doing: dict[Any, tuple[int, Any]] = {}
    failures: dict[int, int] = {}

    def give(actor: Any) -> None:
        number = waiting.popleft()
        doing[actor.draw.remote(number)] = (number, actor)

    for _ in range(min(workers, units)):
        give(start_worker())
    while doing:
        (ready,), _ = ray.wait(list(doing), num_returns=1)
        number, actor = doing.pop(ready)
        try:
            done = ray.get(ready)
        except RayActorError as error:
            failures[number] = failures.get(number, 0) + 1
            if failures[number] == TRIES:
                raise RuntimeError(
                    f"part {name_of(number)} took down {TRIES} workers; "
                    "if memory ran out, give a smaller --batch or fewer --workers"
                ) from error
            telemetry.retry("sample")
            say(f"a worker died while it drew part {name_of(number)}; another draws it again")
            waiting.appendleft(number)
            give(start_worker())
            continue
        if waiting:
            give(actor)
        # A worker without work gives its cores back: the one that replaces another may be waiting for them.
        del actor
        yield done

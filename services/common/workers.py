"""Where the work of a job is done: by the workers of a Ray cluster, or, where Ray is not installed, here.

In this process one item is worked on after another, by the same functions on the same items: parts have the
same bytes, and a run that was stopped is resumed by either.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lungforge.extras import is_installed, require_extra
from services.common.progress import say
from services.common.ray_environment import starts_by_address

if TYPE_CHECKING:
    from services.common.needs import Needs
    from services.common.telemetry import Service

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")


def with_ray() -> bool:
    """Whether Ray is installed, and so does the work."""
    return is_installed("ray")


@contextlib.contextmanager
def work_session(workers: int | None = None, *needs: "Needs") -> Iterator[None]:
    """Have workers inside the block: ``ray_session``, or, with a line that says so, this process.

    Raises:
        InputError: RAY_ADDRESS names a cluster, and Ray is not installed; or as ``ray_session``.
        AccessError: As ``ray_session``.
    """
    if with_ray():
        from services.common.ray_session import ray_session

        with ray_session(workers, *needs):
            yield
        return
    if starts_by_address():
        require_extra("ray", "ray", "the cluster that RAY_ADDRESS names (unset it to work in this process)")
    say("Ray is not installed: working in this process")
    yield


def work_on_items(
    method: Callable[[Worker, Item], Result],
    items: Iterable[Item],
    kind: type[Worker],
    arguments: Sequence[Any],
    workers: int,
    *,
    need: "Needs",
    service: "Service",
    name_of: Callable[[Item], str],
    in_flight: int = 1,
) -> Iterator[Result]:
    """Work on items by long-lived workers, within a ``work_session``.

    Args:
        method: The method of a worker that works on an item.
        items: What there is to do.
        kind: The class of a worker. Its constructor does nothing that may fail: Ray tells of a method what it
            raises, and of a constructor only that the worker died.
        arguments: What a worker is made with, plain data.
        workers: How many work at a time.
        need: What each needs.
        service: Whose retries these are, for the metrics.
        name_of: Names an item in messages.
        in_flight: Items that a worker of Ray has at a time, each in a thread of its own.

    Yields:
        What became of the items, in any order.

    Raises:
        Exception: What the work on an item raised; or as ``run_on_actors``.
    """
    if not with_ray():
        worker = kind(*arguments)
        yield from (method(worker, item) for item in items)
        return
    import ray

    from services.common.ray_tasks import run_on_actors

    remote: Any = ray.remote(kind)
    actor = remote.options(num_cpus=need.cpus, num_gpus=need.gpus, max_restarts=0, max_concurrency=in_flight)
    shared = [ray.put(argument) for argument in arguments]
    for done in run_on_actors(
        lambda: getattr(actor.remote(*shared), method.__name__).remote,
        items,
        workers,
        service=service,
        name_of=name_of,
        in_flight=in_flight,
    ):
        yield done.result

"""An iterator that reads ahead."""

import collections
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(make: Callable[[int], Item], steps: range, ahead: int = 1) -> Generator[Item, None, None]:
    """What ``make`` gives for each step, in order; the next ``ahead`` are made in a thread meanwhile.

    What ``make`` raises is raised when its step comes, and ends the iterator.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as reader:
        coming = collections.deque(reader.submit(make, step) for step in steps[:ahead])
        try:
            for index in range(len(steps)):
                item = coming.popleft().result()
                coming.extend(reader.submit(make, step) for step in steps[index + ahead : index + ahead + 1])
                yield item
        finally:
            for future in coming:
                future.cancel()

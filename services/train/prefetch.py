"""An iterator that reads ahead."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(make: Callable[[int], Item], steps: range) -> Generator[Item, None, None]:
    """What ``make`` gives for each step, in order; the next one is made in a thread meanwhile.

    What ``make`` raises is raised when its step comes, and ends the iterator.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as reader:
        coming = reader.submit(make, steps.start) if steps else None
        for step in steps:
            assert coming is not None
            item = coming.result()
            if step + 1 in steps:
                coming = reader.submit(make, step + 1)
            yield item

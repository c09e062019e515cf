"""Reading ahead: in order, one step ahead, and a fault comes when its step does."""

import threading
import time

import pytest

from services.train.prefetch import prefetch


def test_items_come_in_order_and_the_next_is_made_meanwhile() -> None:
    made: list[int] = []
    second = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 4:
            second.set()
        return step * step

    items = prefetch(make, range(3, 7))
    assert next(items) == 9
    # Made in its thread, although nobody has asked for it yet.
    assert second.wait(timeout=10)
    assert list(items) == [16, 25, 36]
    assert made == [3, 4, 5, 6]


def test_a_fault_is_raised_at_its_step_and_not_before() -> None:
    def make(step: int) -> int:
        if step == 1:
            raise ValueError("damaged")
        return step

    items = prefetch(make, range(3))
    assert next(items) == 0
    with pytest.raises(ValueError, match="damaged"):
        next(items)


def test_nothing_is_made_for_no_steps_nor_after_it_is_closed() -> None:
    made: list[int] = []
    assert list(prefetch(made.append, range(5, 5))) == []
    items = prefetch(made.append, range(100))
    next(items)
    items.close()
    # The next one, if its making had begun.
    assert made in ([0], [0, 1])


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_as_many_are_made_ahead_as_is_asked_for_and_all_come_in_order(ahead: int) -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step

    items = prefetch(make, range(5, 12), ahead)
    assert next(items) == 5
    # One more than is ahead: the first was asked for.
    wanted = min(ahead + 1, 7)
    while len(made) < wanted:
        time.sleep(0.001)
    time.sleep(0.01)
    assert made == list(range(5, 5 + wanted))
    assert list(items) == list(range(6, 12))
    assert list(prefetch(make, range(0), ahead)) == []

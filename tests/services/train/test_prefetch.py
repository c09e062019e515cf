"""Reading ahead: in order, one step ahead, and a fault comes when its step does."""

import threading

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
    assert made == [0, 1]

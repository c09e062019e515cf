"""What the differences of an arm answer: whether synthetic slices help beyond what is free."""

import pytest

from services.eval.downstream.results import Difference, Reference
from tests.services.reports import arm_result, downstream_results, task_result

UP, NONE, DOWN, UNKNOWN = (0.1, 0.05, 0.2), (0.0, -0.1, 0.1), (-0.1, -0.2, -0.05), (None, None, None)


def _difference(reference: Reference, values) -> Difference:
    return Difference(reference, *values, draws=1000)


@pytest.mark.parametrize(
    ("classic", "duplicates", "helps"),
    [
        (UP, UP, 1),
        (UP, NONE, 0),
        (NONE, UP, 0),
        (UP, DOWN, 0),
        (NONE, DOWN, 0),
        (DOWN, UP, -1),
        (DOWN, DOWN, -1),
        (UP, UNKNOWN, None),
        (UNKNOWN, UP, None),
    ],
)
def test_help_is_more_than_augmentation_and_copies_give(classic, duplicates, helps) -> None:
    arm = arm_result(
        "set0-1x",
        _difference("real", UP),
        _difference("classic", classic),
        _difference("duplicates", duplicates),
        synthetic=0,
    )
    (answer,) = downstream_results(task_result(arm_result("classic", _difference("real", UP)), arm)).answers()
    assert (answer.arm, answer.synthetic, answer.not_measured) == (arm, 0, None)
    assert answer.to_real == _difference("real", UP)
    assert answer.helps == helps


def test_what_is_not_measured_helps_nobody_and_says_why() -> None:
    task = task_result(arm_result("set0-1x", synthetic=0), not_measured="the networks learned nothing")
    (answer,) = downstream_results(task).answers()
    assert answer.helps is None
    assert answer.not_measured == task.not_measured
    assert (answer.to_real, answer.to_classic, answer.to_duplicates) == (None, None, None)

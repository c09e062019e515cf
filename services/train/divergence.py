"""When training has diverged, beside a metric that is not finite: one that must not rise does."""

import statistics
from collections.abc import Sequence

from lungforge.models.learner import DivergedError, Learner
from services.train.checkpoints import CheckpointStore

#: Steps that a watched metric is looked at over; its median is not swayed by single steps.
WATCH_STEPS = 100
#: How much of its lowest median the loss may rise to.
LARGEST_RISE = 3.0


def settled_after() -> int:
    """Steps after which a checkpoint is known to be good: a rise before it would have been seen."""
    return 2 * WATCH_STEPS


def require_no_rise(learner: Learner, history: Sequence[Sequence[float]]) -> None:
    """Raise ``DivergedError`` where a watched metric has risen far above its lowest.

    Args:
        learner: Whose ``WATCHED`` metrics are looked at.
        history: The metrics of every step so far.
    """
    done = len(history)
    if done % WATCH_STEPS or done < 2 * WATCH_STEPS:
        return
    for name in learner.WATCHED:
        column = learner.METRICS.index(name)
        values = [row[column] for row in history]
        medians = [
            statistics.median(values[start : start + WATCH_STEPS]) for start in range(0, done, WATCH_STEPS)
        ]
        lowest = min(medians[:-1])
        if medians[-1] > LARGEST_RISE * lowest:
            raise DivergedError(
                f"training diverged: the {name} rose to {medians[-1]:.3g} "
                f"(median of the {WATCH_STEPS} steps to step {done}) and was {lowest:.3g}",
                # It may have begun to rise in the stretch before, in less than half of its steps.
                sound=done - 2 * WATCH_STEPS,
            )


def with_advice(error: DivergedError, checkpoints: CheckpointStore) -> DivergedError:
    """The error with the last good checkpoint and a remedy."""
    kept = checkpoints.last_before(error.sound)
    last = f"the checkpoint of step {kept} is kept" if kept else "there was no checkpoint yet"
    remedy = "train again to another --out with a lower --learning-rate or more --warmup-steps"
    return DivergedError(f"{error}; {last}; {remedy}", error.sound)

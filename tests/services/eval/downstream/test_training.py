"""Checkpoints: which are scored, and that the best one is what remains."""

import math

import pytest
import torch
from torch import nn

from services.eval.downstream.training import BestCheckpoint, checkpoint_steps


@pytest.mark.parametrize(
    ("steps", "scored"),
    [
        (400, (50, 100, 150, 200, 250, 300, 350, 400)),
        (4, (1, 2, 3, 4)),
        (10, (2, 3, 4, 5, 7, 8, 9, 10)),
        (1, (1,)),
    ],
)
def test_checkpoints_are_evenly_apart_and_the_last_step_is_one(steps: int, scored: tuple[int, ...]) -> None:
    assert checkpoint_steps(steps) == scored


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.1, 0.9, 0.3], 2),
        ([0.5, 0.5, 0.3], 2),
        ([0.0, 0.0, 0.0], 3),
        ([0.2, math.nan, 0.1], 1),
        ([math.nan, math.nan], 2),
    ],
)
def test_the_best_checkpoint_is_restored(scores: list[float], best: int) -> None:
    model = nn.Linear(1, 1)
    checkpoint = BestCheckpoint(model)
    for step, score in enumerate(scores, start=1):
        with torch.no_grad():
            model.weight.fill_(float(step))
        checkpoint.offer(step, score)
    fit = checkpoint.restore([2.0, 1.0])
    assert fit.step == best
    assert model.weight.item() == best
    assert fit.losses == (2.0, 1.0)
    assert [step for step, _ in fit.validation] == list(range(1, len(scores) + 1))

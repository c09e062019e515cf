"""What the training of classifier and detector share: schedule, batches, input and checkpoints."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lungforge.ct.window import hu_to_unit

#: The share of the steps in which the learning rate rises.
_WARM_UP = 0.1
#: How often on the way a network is scored on the validation scans.
_CHECKPOINTS: Final = 8


@dataclass(frozen=True)
class TrainingSchedule:
    """How long a network is trained: the same for every arm.

    Attributes:
        steps: Optimiser steps.
        pictures: In each.
        rate: The highest learning rate.
    """

    steps: int
    pictures: int
    rate: float


@dataclass(frozen=True)
class Fit:
    """How the training of a network went.

    Attributes:
        losses: Of each step.
        validation: Step and validation score of each checkpoint; higher is better.
        step: The checkpoint that is kept.
    """

    losses: tuple[float, ...]
    validation: tuple[tuple[int, float], ...]
    step: int


def checkpoint_steps(steps: int) -> tuple[int, ...]:
    """The steps after which a network is scored: evenly apart, the last one included."""
    return tuple(sorted({math.ceil(steps * part / _CHECKPOINTS) for part in range(1, _CHECKPOINTS + 1)}))


class BestCheckpoint:
    """Keeps the weights that score best on the validation scans; of equal ones, those trained longest.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._weights: dict[str, torch.Tensor] = {}
        self._scores: list[tuple[int, float]] = []
        self._best = (0, -math.inf)

    def offer(self, step: int, score: float) -> None:
        """Score the network as it is after a step; a score that is not a number is the worst."""
        self._scores.append((step, score))
        score = -math.inf if math.isnan(score) else score
        if score >= self._best[1]:
            self._best = (step, score)
            self._weights = {name: value.clone() for name, value in self._model.state_dict().items()}

    def restore(self, losses: list[float]) -> Fit:
        """Set the network back to its best checkpoint."""
        self._model.load_state_dict(self._weights)
        return Fit(tuple(losses), tuple(self._scores), self._best[0])


def batches(
    count: int, schedule: TrainingSchedule, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Indices of the examples of each step: every example once, shuffled, then all again.

    Args:
        count: How many examples there are, at least 1.
        schedule: How many steps, and pictures in each.
        generator: Shuffles.
    """
    left = np.zeros(0, dtype=np.int64)
    for _ in range(schedule.steps):
        while len(left) < schedule.pictures:
            left = np.concatenate([left, generator.permutation(count)])
        yield left[: schedule.pictures]
        left = left[schedule.pictures :]


def one_cycle(optimizer: torch.optim.Optimizer, schedule: TrainingSchedule, step: int) -> None:
    """Set the learning rate of a step: a linear rise, then half a cosine down to zero."""
    warm = max(1, round(_WARM_UP * schedule.steps))
    if step < warm:
        share = (step + 1) / warm
    else:
        share = 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, schedule.steps - warm)))
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate * share


def normalised(pictures: NDArray[np.int16], device: torch.device, size: tuple[int, ...]) -> torch.Tensor:
    """What a network reads of pictures ``[N, H, W]`` in HU: ``[N, 3, *size]`` in [-1, 1].

    The channels are equal; the window is -1000 to 400 HU; another size is made by bilinear interpolation.
    """
    unit = torch.from_numpy(hu_to_unit(pictures)).to(device)[:, None]
    if tuple(unit.shape[2:]) != tuple(size):
        unit = nn.functional.interpolate(unit, size=size, mode="bilinear", align_corners=False)
    return unit.expand(-1, 3, -1, -1)

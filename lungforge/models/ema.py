"""The exponential moving average of the weights, with a warm-up."""

from collections.abc import Mapping

import torch
from torch import Tensor


class MovingAverage:
    """Average of named weights over the steps of training.

    The decay of update n is ``min(decay, (1 + n) / (10 + n))``: early averages follow the weights closely.
    With a constant 0.9999, the average of the first thousands of steps is mostly the random start, and
    samples noise.

    Attributes:
        decay: The decay that is reached in the end.
        updates: How many updates were made.
        weights: The averages by name, float32.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float = 0.9999) -> None:
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {
            key: value.detach().clone().float() for key, value in weights.items()
        }

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights after a step of the optimiser; the same names as before."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        current = [weights[key].detach().float() for key in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), current, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages and the count of updates, all as tensors."""
        return {**self.weights, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state_dict`` gave, on the devices where the averages are now."""
        if set(state) != {*self.weights, "updates"}:
            raise KeyError(
                f"the moving average has other keys: {sorted(set(state) ^ {*self.weights, 'updates'})[:3]}"
            )
        self.updates = int(state["updates"])
        for key, value in self.weights.items():
            value.copy_(state[key])

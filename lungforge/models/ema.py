"""The moving averages of the weights in training: of a length relative to the steps so far."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lungforge.models.average_profiles import decay


class MovingAverages:
    """Power-function averages of named weights over the steps of training (arXiv 2312.02696, section 3.1).

    Their length grows with the training, so that one number suits runs of any count of steps, and the random
    start is forgotten at once.

    Attributes:
        updates: How many updates were made.
        by_length: The averages by relative length and name, float32.
    """

    def __init__(self, weights: Mapping[str, Tensor], lengths: Sequence[float]) -> None:
        """Follow weights.

        Args:
            weights: By name.
            lengths: Relative lengths, each once; the first is that of the average that the model keeps.
        """
        self.updates = 0
        self.by_length: dict[float, dict[str, Tensor]] = {
            length: {key: value.detach().clone().float() for key, value in weights.items()}
            for length in lengths
        }

    @property
    def weights(self) -> dict[str, Tensor]:
        """The average that the model keeps."""
        return next(iter(self.by_length.values()))

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights after a step of the optimiser; the same names as before."""
        self.updates += 1
        current = [weights[key].detach().float() for key in self.weights]
        for length, averages in self.by_length.items():
            torch._foreach_lerp_(list(averages.values()), current, 1 - decay(length, self.updates))

    def state_dict(self) -> dict[str, Tensor]:
        """The averages and the count of updates, all as tensors."""
        return {**self._named(), "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what ``state_dict`` gave, on the devices where the averages are now."""
        named = self._named()
        if set(state) != {*named, "updates"}:
            raise KeyError(
                f"the moving averages have other keys: {sorted(set(state) ^ {*named, 'updates'})[:3]}"
            )
        self.updates = int(state["updates"])
        for key, value in named.items():
            value.copy_(state[key])

    def _named(self) -> dict[str, Tensor]:
        return {
            f"{length:g}:{key}": value
            for length, averages in self.by_length.items()
            for key, value in averages.items()
        }

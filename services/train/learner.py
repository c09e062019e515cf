"""The model in training: one step of the optimiser, and everything that a checkpoint must hold."""

import math
from collections.abc import Callable

import torch
import torch.distributed
from torch import Tensor, nn

from lungforge.errors import InputError
from lungforge.randomness import seed_of
from lungforge.sdm.config import UNetConfig
from lungforge.sdm.diffusion import Schedule, training_loss
from lungforge.sdm.ema import MovingAverage
from lungforge.sdm.unet import SemanticUNet
from services.train.batches import Batch
from services.train.config import TrainConfig

#: What is recorded of every step, in this order.
METRICS = ("loss", "mse", "vb", "gradient_norm")


class DivergedError(InputError):
    """The loss or the gradient is no number any more."""


class DiffusionLoss(nn.Module):
    """The network with its loss in one forward pass, as distributed training wants it."""

    def __init__(self, network: SemanticUNet, schedule: Schedule) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule

    def forward(self, images: Tensor, maps: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Mean total, mse and vb of a batch, [3]."""
        loss = training_loss(lambda x, t: self.network(x, t, maps), self.schedule, images, timesteps, noise)
        return torch.stack([loss.total.mean(), loss.mse.mean(), loss.vb.mean()])


class Learner:
    """Network, optimiser and moving average.

    Attributes:
        network: The network in training.
        average: The moving average of its weights, on the worker that writes; None on the others.

    Args:
        config: Of the run.
        shape: Of the network.
        distribute: Puts the loss module on its device and shares its gradients among the workers.
        averages: Whether this worker keeps the moving average.
    """

    def __init__(
        self,
        config: TrainConfig,
        shape: UNetConfig,
        *,
        distribute: Callable[[nn.Module], nn.Module] = lambda module: module,
        averages: bool = True,
    ) -> None:
        self.config = config
        self.schedule = Schedule.linear()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(config.seed, "weights"))
            self.network = SemanticUNet(shape)
        self._loss = distribute(DiffusionLoss(self.network, self.schedule))
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=0.0
        )
        self.average = MovingAverage(self.network, config.average_decay) if averages else None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def step(self, batch: Batch, step: int) -> list[float]:
        """Take one step.

        Args:
            batch: This worker's share.
            step: Which step it is, from 0.

        Returns:
            The values of ``METRICS``, over all workers.

        Raises:
            DivergedError: Loss or gradient are not finite; the weights are as they were.
        """
        batch = batch.to(self.device)
        self._loss.train()
        losses = self._loss(batch.images, batch.maps, batch.timesteps, batch.noise)
        self._optimiser.zero_grad(set_to_none=True)
        losses[0].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        losses = mean_over_workers(losses.detach())
        metrics = [*losses.tolist(), float(norm)]
        if not all(map(math.isfinite, metrics)):
            raise DivergedError(
                f"training diverged at step {step + 1}: "
                f"{', '.join(f'{name} {value:g}' for name, value in zip(METRICS, metrics, strict=True))}"
            )
        warm = min(1.0, (step + 1) / self.config.warm_up) if self.config.warm_up else 1.0
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.learning_rate * warm
        self._optimiser.step()
        if self.average is not None:
            self.average.update(self.network)
        return metrics

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that the next step depends on, as named groups of named tensors (not copies)."""
        assert self.average is not None, "only the worker that keeps the average has the whole state"
        moments = {name: self._optimiser.state[value] for name, value in self.network.named_parameters()}
        return {
            "weights": self.network.state_dict(),
            "average": self.average.state_dict(),
            "first_moments": {name: state["exp_avg"] for name, state in moments.items()},
            "second_moments": {name: state["exp_avg_sq"] for name, state in moments.items()},
        }

    def load_state(self, state: dict[str, dict[str, Tensor]], steps: int) -> None:
        """Go on from what ``state`` gave after ``steps`` steps; ``average`` only where it is kept."""
        self.network.load_state_dict(state["weights"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name, value in self.network.named_parameters():
            # In the memory layout of the weight, as the optimiser would have made them.
            self._optimiser.state[value] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": torch.empty_like(value, requires_grad=False).copy_(state["first_moments"][name]),
                "exp_avg_sq": torch.empty_like(value, requires_grad=False).copy_(
                    state["second_moments"][name]
                ),
            }


def mean_over_workers(values: Tensor) -> Tensor:
    """The mean of a tensor over the workers, on each of them."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return values

"""What every model in training has in common: a step, and everything that a checkpoint must hold."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lungforge.errors import InputError
from lungforge.models.ema import MovingAverage
from lungforge.models.generators import Painter
from services.train.batches import Batch
from services.train.config import TrainConfig

#: Puts a module on its device and shares its gradients among the workers.
Distribute = Callable[[nn.Module], nn.Module]

#: Named groups of named tensors.
State = dict[str, dict[str, Tensor]]


class DivergedError(InputError):
    """The loss or the gradient is no number any more, or the loss rises.

    Attributes:
        sound: Steps after which the weights were still good.
    """

    def __init__(self, problem: str, sound: int) -> None:
        super().__init__(problem)
        self.sound = sound


class Learner(ABC):
    """Networks, optimisers and the moving average of what draws.

    Attributes:
        METRICS: What is recorded of every step, in this order.
        WATCHED: The metric that must not rise; None where rising and falling is no sign of anything.
        config: Of the run.
        trained: The networks with their optimisers.
        average: The moving average, on the worker that writes; None on the others.
        noise_shape: Shape of the standard normal noise of a sample.
        timesteps: Steps of the diffusion process that a sample has one of; 1 where there is no such process.
    """

    METRICS: ClassVar[tuple[str, ...]]
    WATCHED: ClassVar[str | None]

    def __init__(
        self,
        config: TrainConfig,
        trained: Sequence["Trained"],
        average: MovingAverage | None,
        *,
        noise_shape: tuple[int, ...],
        timesteps: int,
    ) -> None:
        self.config = config
        self.trained = trained
        self.average = average
        self.noise_shape = noise_shape
        self.timesteps = timesteps

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.trained[0].network.parameters()).device

    @abstractmethod
    def step(self, pieces: Sequence[Batch], step: int) -> list[float]:
        """Take one step of the optimiser.

        Args:
            pieces: This worker's share of the batch, in pieces of equal length.
            step: Which step it is, from 0.

        Returns:
            The values of ``METRICS``, over all workers.

        Raises:
            DivergedError: Loss or gradient are not finite; the weights are as they were.
        """

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The JSON document that stands beside the averaged weights."""

    @abstractmethod
    def painter(self) -> Painter:
        """What draws with the averaged weights as they are now."""

    def state(self) -> State:
        """Everything that the next step depends on (not copies)."""
        assert self.average is not None, "only the worker that keeps the average has the whole state"
        groups = {name: group for network in self.trained for name, group in network.state().items()}
        return {**groups, "average": self.average.state_dict()}

    def load_state(self, state: State, steps: int) -> None:
        """Go on from what ``state`` gave after ``steps`` steps; ``average`` only where it is kept."""
        for network in self.trained:
            network.load_state(state, steps)
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def rate(self, full: float, step: int) -> float:
        """The learning rate of a step: it rises to ``full`` over the warm-up."""
        return full * (min(1.0, (step + 1) / self.config.warm_up) if self.config.warm_up else 1.0)

    def require_finite(self, metrics: Sequence[float], step: int) -> None:
        """Raise ``DivergedError`` where a metric is no number."""
        if not all(map(math.isfinite, metrics)):
            named = zip(self.METRICS, metrics, strict=True)
            values = ", ".join(f"{name} {value:g}" for name, value in named)
            raise DivergedError(f"training diverged at step {step + 1}: {values}", sound=step)


class Trained:
    """A network with its optimiser, as a checkpoint holds them.

    Args:
        name: Begins the names of its groups of tensors.
        network: The network, without a wrapper.
        optimiser: Adam or AdamW over its parameters.
    """

    def __init__(self, name: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.name, self.network, self.optimiser = name, network, optimiser

    def clip(self, largest: float | None) -> float:
        """Shorten the gradient to a norm of at most ``largest``, if given; the norm that it had."""
        limit = math.inf if largest is None else largest
        return float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))

    def step(self, rate: float) -> None:
        """Take a step of the optimiser, and forget the gradient."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def state(self) -> State:
        """Weights and both moments of the gradient."""
        moments = {
            name: self.optimiser.state[value]
            for name, value in self.network.named_parameters()
            if value in self.optimiser.state
        }
        return {
            f"{self.name}_weights": self.network.state_dict(),
            f"{self.name}_first_moments": {name: state["exp_avg"] for name, state in moments.items()},
            f"{self.name}_second_moments": {name: state["exp_avg_sq"] for name, state in moments.items()},
        }

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]], steps: int) -> None:
        """Go on from what ``state`` gave."""
        self.network.load_state_dict(state[f"{self.name}_weights"])
        first, second = (state[f"{self.name}_{order}_moments"] for order in ("first", "second"))
        for name, value in self.network.named_parameters():
            if name in first:
                # In the memory layout of the weight, as the optimiser would have made them.
                self.optimiser.state[value] = {
                    "step": torch.tensor(float(steps)),
                    "exp_avg": torch.empty_like(value, requires_grad=False).copy_(first[name]),
                    "exp_avg_sq": torch.empty_like(value, requires_grad=False).copy_(second[name]),
                }


@contextlib.contextmanager
def gradients_shared(modules: Iterable[nn.Module], *, share: bool) -> Iterator[None]:
    """Within the block, workers add up their gradients only if ``share``: with the last piece of a batch."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if not share and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks compute: in bfloat16 where that is the precision, else as they are."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def mean_over_workers(values: Tensor) -> Tensor:
    """The mean of a tensor over the workers, on each of them."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return values

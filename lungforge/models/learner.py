"""What every generator in training has in common: a step, and everything that a checkpoint must hold."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lungforge.ct import classes
from lungforge.errors import InputError
from lungforge.models.base import SliceSampler
from lungforge.models.device_choices import Precision
from lungforge.models.ema import MovingAverages
from lungforge.models.spade import one_hot_or_hidden

#: Puts a module on its device and shares its gradients among the workers.
Distribute = Callable[[nn.Module], nn.Module]

#: Named groups of named tensors.
State = dict[str, dict[str, Tensor]]


class TrainingSettings(Protocol):
    """The settings of every generator's training; a training run's configuration has these fields."""

    @property
    def seed(self) -> int:
        """Decides every random number."""

    @property
    def batch(self) -> int:
        """Images a step, over all workers."""

    @property
    def precision(self) -> Precision:
        """What the networks compute in."""

    @property
    def learning_rate(self) -> float:
        """Reached after the warm-up."""

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises from zero."""

    @property
    def steps(self) -> int:
        """Of the optimiser."""

    @property
    def decay(self) -> float:
        """Last share of the steps over which the learning rate falls to zero."""

    @property
    def max_grad_norm(self) -> float | None:
        """Largest norm of the gradient; None leaves it as it is."""

    @property
    def average_lengths(self) -> tuple[float, ...]:
        """Relative lengths of the averages of the weights; the first is that of the model."""


def no_time(generator: torch.Generator) -> float:
    """The time of every sample where there is no process of noise; draws one value all the same."""
    return int(torch.randint(1, (1,), generator=generator))


@dataclass(frozen=True)
class SampleNeeds:
    """What a learner needs of each sample beside its image and map.

    Attributes:
        noise_shape: Shape of its standard normal noise.
        draw_time: Draws how noisy a sample is made; the same for all where there is no such process.
        condition_dropout: Share of samples whose map is hidden, and of those whose place is.
    """

    noise_shape: tuple[int, ...]
    draw_time: Callable[[torch.Generator], float] = no_time
    condition_dropout: float = 0.0


@dataclass(frozen=True)
class Batch:
    """What a worker trains on in a step.

    Attributes:
        images: float32 [N, 1, H, W] in [-1, 1].
        labels: Classes, uint8 [N, H, W]; ``HIDDEN_ID`` everywhere where the map is hidden. A twenty-fourth of
            what the one-hot maps take, which are made where they are needed.
        times: What the learner drew for each, [N]: the timestep, or ln σ of its noise.
        noise: Standard normal [N, ...].
        places: Where each image is, [N, VALUES], as ``lungforge.models.place`` has it; all zeros where that
            is hidden.
    """

    images: Tensor
    labels: Tensor
    times: Tensor
    noise: Tensor
    places: Tensor

    @property
    def maps(self) -> Tensor:
        """One-hot maps, float32 [N, classes, H, W], on the device of the labels; all zeros where hidden."""
        return one_hot_or_hidden(self.labels, classes.COUNT)

    def pinned(self) -> "Batch":
        """The same in memory that a GPU copies from while the host continues."""
        return Batch(*(value.pin_memory() for value in self._values()))

    def to(self, device: torch.device) -> "Batch":
        """The same on another device; from pinned memory, the host does not wait for it."""
        return Batch(*(value.to(device, non_blocking=True) for value in self._values()))

    def micro_batches(self, count: int) -> list["Batch"]:
        """The same in micro-batches of equal length, in order."""
        chunks = (value.chunk(count) for value in self._values())
        return [Batch(*values) for values in zip(*chunks, strict=True)]

    def _values(self) -> tuple[Tensor, ...]:
        return self.images, self.labels, self.times, self.noise, self.places


class DivergedError(InputError):
    """The loss or the gradient is no number any more, or the loss rises.

    Attributes:
        sound: Steps after which the weights were still good.
    """

    def __init__(self, problem: str, sound: int) -> None:
        super().__init__(problem)
        self.sound = sound


class Learner(ABC):
    """Networks, their optimisers, and the moving average of the weights that a model keeps.

    Attributes:
        METRICS: What is recorded of every step, in this order.
        WATCHED: The metrics that must not rise; none where rising and falling is no sign of anything.
        SUMMARY: The metrics whose last values the manifest of the model states.
        settings: Of the run.
        needs: What it needs of each sample.
        trained: The networks with their optimisers.
        average: The moving averages, on the worker that writes; None on the others.
    """

    METRICS: tuple[str, ...]
    WATCHED: ClassVar[tuple[str, ...]]
    SUMMARY: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        settings: TrainingSettings,
        needs: SampleNeeds,
        trained: Sequence["Trained"],
        average: MovingAverages | None,
    ) -> None:
        self.settings = settings
        self.needs = needs
        self.trained = trained
        self.average = average

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.trained[0].network.parameters()).device

    @abstractmethod
    def step(self, micro_batches: Sequence[Batch], step: int) -> Tensor:
        """Take one step of the optimiser, without waiting for the device.

        Args:
            micro_batches: This worker's share of the batch, in micro-batches of equal length.
            step: Which step it is, from 0.

        Returns:
            What was measured, over all workers, on the device: ``metrics`` turns it into ``METRICS``.
        """

    def metrics(self, measured: Sequence[float]) -> list[float]:
        """The values of ``METRICS`` from what a step measured; called once for every step, in order."""
        return list(measured)

    def read(self, measured: Sequence[Tensor], first: int) -> Iterator[list[float]]:
        """Read back what steps have measured, and wait for them.

        Args:
            measured: What ``step`` gave, one after another.
            first: The step of the first of them.

        Yields:
            The values of ``METRICS`` of each step.

        Raises:
            DivergedError: Loss or gradient of a step are not finite.
        """
        rows = torch.stack(list(measured)).tolist() if measured else []
        for step, row in enumerate(rows, first):
            metrics = self.metrics(row)
            self.require_finite(metrics, step)
            yield metrics

    @abstractmethod
    def sampler(self) -> SliceSampler:
        """What samples with the averaged weights as they are now, for previews."""

    def state(self) -> State:
        """Everything that the next step depends on (not copies)."""
        assert self.average is not None, "only the worker that keeps the average has the whole state"
        groups = {name: group for network in self.trained for name, group in network.state().items()}
        return {**groups, "average": self.average.state_dict()}

    def load_state(self, state: State, steps: int) -> None:
        """Resume from what ``state`` gave after ``steps`` steps; ``average`` only where it is kept."""
        for network in self.trained:
            network.load_state(state, steps)
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def rate(self, full: float, step: int) -> float:
        """The learning rate of a step: it rises to ``full`` in the warm-up and falls to zero at the end."""
        warmup, falling = self.settings.warmup_steps, self.settings.decay * self.settings.steps
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        fall = min(1.0, (self.settings.steps - step) / falling) if falling else 1.0
        return full * min(rise, fall)

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

    def clip_grad_norm(self, max_norm: float | None) -> Tensor:
        """Scale the gradient to a norm of at most ``max_norm``, if given; returns the norm before."""
        limit = math.inf if max_norm is None else max_norm
        return nn.utils.clip_grad_norm_(self.network.parameters(), limit)

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
        """Resume from what ``state`` gave."""
        self.network.load_state_dict(state[f"{self.name}_weights"])
        first, second = (state[f"{self.name}_{order}_moments"] for order in ("first", "second"))
        fused = self.optimiser.defaults.get("fused")
        for name, value in self.network.named_parameters():
            if name in first:
                # In the memory layout of the weight, as the optimiser would have made them.
                self.optimiser.state[value] = {
                    "step": torch.tensor(float(steps), device=value.device if fused else None),
                    "exp_avg": torch.empty_like(value, requires_grad=False).copy_(first[name]),
                    "exp_avg_sq": torch.empty_like(value, requires_grad=False).copy_(second[name]),
                }


@contextlib.contextmanager
def gradients_shared(modules: Iterable[nn.Module], *, share: bool) -> Iterator[None]:
    """Within the block, workers add up gradients only if ``share``: with the last micro-batch of a step."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if not share and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield


def mean_over_workers(values: Tensor) -> Tensor:
    """The mean of a tensor over the workers, on each of them."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return values

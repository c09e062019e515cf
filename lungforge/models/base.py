"""What a generator is: a ``ModelSpec``, with all that training and sampling need to know of it.

A generator lives in a folder. Its ``ModelSpec`` names the options of its network and of its training, its
presets, and how to build the network, to sample from it and to train it. ``docs/extending.md`` shows one from
end to end, and how it is registered.

This module, the configurations and the specs do without PyTorch, so that the command line answers at once;
the methods of a spec import what they need.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lungforge.config import above, at_least, between, check, option
from lungforge.ct import classes
from lungforge.errors import InputError
from lungforge.models.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lungforge.models.learner import Distribute, Learner, TrainingSettings

#: Names of the samplers of diffusion models: ancestral, DDIM, DPM-Solver++(2M), Heun.
SamplerName = Literal["ancestral", "ddim", "dpmpp", "heun"]

#: Metadata of a field of a network that older documents lack: they mean its default.
ADDED = {"added": True}

#: What names an image: the seed and whatever tells it from the others.
Identity = tuple[int | str, ...]


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; a generator ignores what it has no use for, and decides what is None.

    Attributes:
        sampler: Which sampler.
        steps: Evaluations of the network along one image.
        guidance: Scale of classifier-free guidance; 1 is the plain conditional model.
        guidance_interval: Standard deviations of noise, for pixels in [-1, 1]; guidance acts between them.
    """

    sampler: SamplerName | None = None
    steps: int | None = field(default=None, metadata=between(1, 1000))
    guidance: float | None = field(default=None, metadata=at_least(0))
    guidance_interval: tuple[float, float] | None = field(default=None, metadata=at_least(0))

    def __post_init__(self) -> None:
        """Check the values."""
        check(self)
        if self.guidance_interval is not None and not self.guidance_interval[0] < self.guidance_interval[1]:
            low, high = self.guidance_interval
            raise InputError(f"{option('guidance_interval')} is {low:g} {high:g}; give the lower one first")


class SliceSampler(Protocol):
    """A network with all that is computed once a job: turns label maps into slices.

    An image depends on its identity, its map and the options, not on the process that samples it nor on the
    order. The batch can change the rounding, and nothing else.
    """

    @property
    def sampler(self) -> str:
        """The sampler, as the row of a sample names it."""

    @property
    def steps(self) -> int:
        """Evaluations of the network along one image."""

    @property
    def guidance(self) -> float:
        """Scale of classifier-free guidance; 1 where there is none."""

    def sample(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        places: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int16]:
        """Sample an image for each map.

        Args:
            labels: Classes, [N, H, W].
            identities: Of the images; the noise of each comes from a random generator of its own.
            places: Of the images, [N, VALUES], as ``lungforge.models.place`` has them; None where they are
                not known. A network that does not take them ignores them.

        Returns:
            HU, [N, H, W].

        Raises:
            InputError: A map has an unknown class, or another size than the network.
            ContentError: An image is not finite; as int16 it would be 0 HU.
        """


@runtime_checkable
class InpaintingSampler(SliceSampler, Protocol):
    """A sampler that can also replace a part of a real slice."""

    def inpaint(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        real: NDArray[np.int16],
        mask: NDArray[np.bool_],
        places: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int16]:
        """Sample a part of each image, and keep the rest of it real.

        Args:
            labels: Classes of the whole images, [N, H, W].
            identities: Of the images.
            real: HU, [N, H, W].
            mask: [N, H, W], True where an image is sampled.
            places: As for ``sample``.

        Returns:
            HU, [N, H, W]; outside the mask equal to ``real``, also where that is outside the window.

        Raises:
            InputError: A map has an unknown class, or another size than the network.
        """


@dataclass(frozen=True)
class NetworkOptions:
    """What a user may choose of a network; the options ``--network.*`` of training."""


@dataclass(frozen=True)
class DataShape:
    """What the data decide of a network. With its ``NetworkOptions``, they decide every tensor."""

    image_size: int = field(default=256, metadata=at_least(1))
    """Side of the square images, in pixels."""
    image_channels: int = field(default=1, metadata=at_least(1))
    """Channels of the images: 1 for CT, 3 for colour."""
    classes: int = field(default=classes.COUNT, metadata=at_least(1))
    """Channels of the one-hot maps."""


@dataclass(frozen=True)
class LearnerOptions:
    """What a user may choose of a generator's own training; the options ``--learner.*``."""


@dataclass(frozen=True)
class Preset:
    """A named size of a generator.

    Attributes:
        image_size: Side of the images that it is meant for, in pixels.
        network: The network.
        learner: Options of its training.
        learning_rate: Of its training.
        max_grad_norm: Largest norm of the gradient; None leaves gradients as they are.
        decay: Last share of the steps over which the learning rate falls to zero.
    """

    network: NetworkOptions
    learner: LearnerOptions
    image_size: int = field(metadata=at_least(1))
    learning_rate: float = field(default=1e-4, metadata=above(0))
    max_grad_norm: float | None = field(default=1.0, metadata=above(0))
    decay: float = field(default=0.0, metadata=between(0, 1))


#: A generator's network: a ``NetworkOptions`` and a ``DataShape`` in one dataclass.
Config = TypeVar("Config", bound=DataShape)
Options = TypeVar("Options", bound=LearnerOptions)


class ModelSpec(ABC, Generic[Config, Options]):
    """A generator.

    Attributes:
        name: Its name for ``--model`` and in every model dataset.
        summary: What it is, in a few words.
        network_options: The dataclass of its ``NetworkOptions``.
        network_config: The same with a ``DataShape``: the whole network.
        learner_options: The dataclass of its ``LearnerOptions``.
        presets: By name; ``tiny``, ``cpu`` and ``luna256`` are those of the command line, and the last one
            holds where no preset is named.
        inpaints: Whether its sampler is an ``InpaintingSampler``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    network_options: ClassVar[type[NetworkOptions]]
    network_config: ClassVar[type[DataShape]]
    learner_options: ClassVar[type[LearnerOptions]]
    presets: ClassVar[Mapping[str, Preset]]
    inpaints: ClassVar[bool] = False

    def config(self, options: NetworkOptions, shape: DataShape, learner: LearnerOptions) -> Config:
        """The network of the options for data of a shape.

        Args:
            options: Of the network.
            shape: Of the data.
            learner: Of its training; fields that the network has too are those of the network.

        Raises:
            InputError: No such network is possible.
        """
        known = {item.name for item in dataclasses.fields(self.network_config)}
        values = {
            item.name: getattr(part, item.name)
            for part in (options, shape, learner)
            for item in dataclasses.fields(part)
            if item.name in known
        }
        config: Any = self.network_config(**values)
        return config

    def with_statistics(self, config: Config, images: Callable[[], NDArray[np.float32]]) -> Config:
        """The network with the constants that it takes from the training images; as it is, if it takes none.

        Args:
            config: The network.
            images: Reads some of the training images, [N, H, W] in [-1, 1].
        """
        return config

    def preset_config(self, name: str, *, image_channels: int = 1, classes: int = classes.COUNT) -> Config:
        """The network of a preset, for images of the size that it is meant for."""
        preset = self.presets[name]
        shape = DataShape(preset.image_size, image_channels, classes)
        return self.config(preset.network, shape, preset.learner)

    def sampling(self, config: Config, options: SamplingOptions) -> SamplingOptions:
        """How to sample with a network where the options leave something open, or ask for what has no use.

        What it gives decides the images, so that it is recorded with them.

        Args:
            config: The network.
            options: What was asked for.

        Raises:
            InputError: The network cannot be sampled so.
        """
        return SamplingOptions()

    def cost(self, config: Config) -> Cost | None:
        """What the network costs a GPU; None where that is not known."""
        return None

    @abstractmethod
    def build(self, config: Config, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network with the given weights, in evaluation mode, on the CPU.

        Raises:
            InputError: The weights are of another network; the message says how it differs.
        """

    @abstractmethod
    def sampler(self, network: Any, options: SamplingOptions) -> SliceSampler:
        """What samples with a network that ``build`` made, on the device where that is now."""

    @abstractmethod
    def learner(
        self,
        config: Config,
        options: Options,
        settings: TrainingSettings,
        *,
        distribute: Distribute,
        averages: bool,
    ) -> Learner:
        """The network at the start of its training.

        Args:
            config: The network.
            options: Of this generator's training.
            settings: Of every generator's training.
            distribute: Puts a module on its device and shares its gradients among the workers.
            averages: Whether this worker keeps the moving averages of the weights.
        """

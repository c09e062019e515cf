"""The shape of the network, what may be chosen of its training, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from lungforge.config import EXECUTION, NOT_EMPTY, above, at_least, between, check, from_to_below, option
from lungforge.errors import InputError
from lungforge.models.base import (
    ADDED,
    DataShape,
    LearnerOptions,
    NetworkOptions,
    Preset,
    SamplerName,
    SamplingOptions,
)

#: What a network is trained to predict: the noise, as published, or the image with EDM's preconditioning.
ObjectiveName = Literal["edm", "eps"]

#: Side of the images that levels of noise are stated for, in px.
REFERENCE_SIDE: Final = 64
#: Every normalisation has this many groups, so every width is a multiple of it.
GROUPS: Final = 32


@dataclass(frozen=True)
class UNetOptions(NetworkOptions):
    """What may be chosen of a semantic U-Net."""

    base_channels: int = field(default=256, metadata=at_least(1))
    """Width that the multipliers multiply."""
    channel_multipliers: tuple[float, ...] = field(default=(1, 1, 2, 2, 4, 4), metadata=NOT_EMPTY | above(0))
    """Width of each level, in units of the base width, the finest first; each level has half the side of the
    one before."""
    residual_blocks: int = field(default=2, metadata=at_least(1))
    """Residual blocks a level of the encoder; the decoder has one more."""
    attention_sizes: tuple[int, ...] = field(default=(32, 16, 8), metadata=at_least(1))
    """Sides, in pixels, of the feature maps with self-attention."""
    head_channels: int = field(default=64, metadata=at_least(1))
    """Channels of an attention head."""
    place: bool = field(default=False, metadata=ADDED)
    """Take as inputs how large a pixel is in mm, and where in its slice a patch lies; for patches, and for
    slices of several resolutions. In training both are hidden as often as the map."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        check(self)
        # 4 and 4.0 are the same width: written alike, they are the same work.
        multipliers = tuple(int(value) if value % 1 == 0 else value for value in self.channel_multipliers)
        object.__setattr__(self, "channel_multipliers", multipliers)
        for multiplier, width in zip(self.channel_multipliers, self.widths, strict=True):
            if width < GROUPS or width % GROUPS:
                raise InputError(
                    f"{option('base_channels')} {self.base_channels} times multiplier {multiplier} is "
                    f"{width}; every width must be a multiple of {GROUPS}"
                )
        if self.widths[-1] % self.head_channels:
            raise InputError(
                f"{option('head_channels')} {self.head_channels} does not divide the middle's width "
                f"{self.widths[-1]}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return tuple(int(multiplier * self.base_channels) for multiplier in self.channel_multipliers)


@dataclass(frozen=True)
class UNetConfig(UNetOptions, DataShape):
    """What decides the tensors of a semantic U-Net, and how it computes."""

    dropout: float = field(default=0.0, metadata=from_to_below(0, 1))
    """Probability of dropping a feature before the last convolution of a block."""
    objective: ObjectiveName = field(default="eps", metadata=ADDED)
    """What it is trained to predict."""
    pixel_mean: float = field(default=0.0, metadata=ADDED | between(-1, 1))
    """Mean of the training pixels, in [-1, 1]; the objective edm needs it."""
    pixel_spread: float = field(default=0.5, metadata=ADDED | above(0))
    """Their standard deviation; the objective edm needs it."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        super().__post_init__()
        if self.image_size % 2 ** (len(self.widths) - 1):
            raise InputError(
                f"image_size {self.image_size} cannot be halved {len(self.widths) - 1} times; "
                f"give a multiple of {2 ** (len(self.widths) - 1)} or fewer {option('channel_multipliers')}"
            )
        for size in self.attention_sizes:
            if size not in self.sizes:
                raise InputError(
                    f"{option('attention_sizes')} has {size}; "
                    f"the feature maps have the sides {' '.join(map(str, self.sizes))}"
                )
            width = self.widths[self.sizes.index(size)]
            if width % self.head_channels:
                raise InputError(
                    f"{option('head_channels')} {self.head_channels} does not divide the width {width} "
                    f"at side {size}"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of the feature maps of each level, in pixels, the finest first."""
        return tuple(self.image_size // 2**level for level in range(len(self.channel_multipliers)))


@dataclass(frozen=True)
class DiffusionOptions(LearnerOptions):
    """What may be chosen of the training of a semantic diffusion model."""

    objective: ObjectiveName = "edm"
    """What the network is trained to predict: edm is the image, preconditioned as by Karras et al.; eps is
    the noise, with learned variance, as in the published study, which learns brightness last."""

    condition_dropout: float = field(default=0.1, metadata=between(0, 1))
    """Share of images whose map is hidden, so that guidance has an unconditional model."""
    activation_checkpointing: bool = field(default=False, metadata=EXECUTION)
    """Compute activations a second time rather than keep them: much less memory, a third more time."""
    compile: bool = field(default=False, metadata=EXECUTION)
    """Compile the network's blocks with torch.compile; the first steps take minutes."""

    def __post_init__(self) -> None:
        """Check the values."""
        check(self)


#: ``tiny`` takes seconds a step on a CPU, ``cpu`` an hour on two cores, ``luna256`` is the published setting.
#: ``luna256-edm`` has half its width: a GPU of 24 GB trains it in a day, by its arithmetic. ``luna512-patch``
#: is the same for patches of 256 px of slices of 512 px.
PRESETS = {
    "tiny": Preset(
        UNetOptions(
            base_channels=32,
            channel_multipliers=(1, 2),
            residual_blocks=1,
            attention_sizes=(16,),
            head_channels=32,
        ),
        DiffusionOptions(),
        image_size=32,
        learning_rate=1e-3,
        decay=0.4,
    ),
    "cpu": Preset(
        UNetOptions(
            base_channels=32,
            channel_multipliers=(1, 2, 3),
            residual_blocks=1,
            attention_sizes=(16,),
            head_channels=32,
        ),
        DiffusionOptions(),
        image_size=64,
        learning_rate=8e-4,
        decay=0.4,
    ),
    "luna256": Preset(UNetOptions(), DiffusionOptions(), image_size=256),
    "luna256-edm": Preset(
        UNetOptions(base_channels=128), DiffusionOptions(), image_size=256, learning_rate=2e-4, decay=0.4
    ),
    "luna512-patch": Preset(
        UNetOptions(base_channels=128, place=True),
        DiffusionOptions(),
        image_size=256,
        learning_rate=2e-4,
        decay=0.4,
    ),
}


@dataclass(frozen=True)
class SamplingDefaults:
    """How to sample where the user does not say.

    Attributes:
        sampler: Which sampler.
        steps: Evaluations of the network along one image, by sampler.
        guidance: Scale of guidance.
        guidance_interval: Where it acts, for images of ``REFERENCE_SIDE``; None is everywhere.
    """

    sampler: SamplerName
    steps: Mapping[SamplerName, int]
    guidance: float
    guidance_interval: tuple[float, float] | None


#: Chosen on validation maps: docs/measurements/sampling.md.
SAMPLING_DEFAULTS: Final[Mapping[ObjectiveName, SamplingDefaults]] = {
    "edm": SamplingDefaults(
        "dpmpp", {"dpmpp": 12, "heun": 23, "ddim": 25, "ancestral": 50}, 1.5, (0.4, 1.61)
    ),
    "eps": SamplingDefaults("ancestral", {"dpmpp": 25, "heun": 39, "ddim": 50, "ancestral": 50}, 1.5, None),
}


def sampling_of(config: UNetConfig, options: SamplingOptions) -> SamplingOptions:
    """The options with what suits a network where they leave something open.

    Where guidance acts grows with the side of the images, as the noise of training does.

    Raises:
        InputError: The sampler cannot take so many evaluations.
    """
    defaults = SAMPLING_DEFAULTS[config.objective]
    sampler = options.sampler or defaults.sampler
    steps = options.steps or defaults.steps[sampler]
    if sampler == "heun" and steps % 2 == 0:
        raise InputError(
            f"--steps is {steps}; heun evaluates the network twice a step and once at the last, "
            f"so give {steps - 1} or {steps + 1}"
        )
    interval = options.guidance_interval
    if interval is None and defaults.guidance_interval is not None:
        low, high = (sigma * config.image_size / REFERENCE_SIDE for sigma in defaults.guidance_interval)
        interval = low, high
    return SamplingOptions(
        sampler, steps, defaults.guidance if options.guidance is None else options.guidance, interval
    )

"""The shape of the network, as a frozen configuration with named presets."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from lungforge.errors import InputError

#: Every normalisation has this many groups, so every width is a multiple of it.
GROUPS = 32


@dataclass(frozen=True)
class UNetConfig:
    """What decides the tensors of a semantic U-Net."""

    image_size: int = 256
    """Side of the square images, in pixels."""
    image_channels: int = 1
    """Channels of the images: 1 for CT, 3 in the networks that the paper's authors released."""
    classes: int = 6
    """Channels of the one-hot maps."""
    base_channels: int = 256
    """Width that the multipliers multiply."""
    channel_multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level, in units of the base width; each level has half the side of the one before."""
    residual_blocks: int = 2
    """Residual blocks a level of the encoder; the decoder has one more."""
    attention_sizes: tuple[int, ...] = (32, 16, 8)
    """Sides, in pixels, of the feature maps that attention works on."""
    head_channels: int = 64
    """Channels of an attention head."""
    dropout: float = 0.0
    """Probability of dropping a feature before the last convolution of a block."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        object.__setattr__(self, "channel_multipliers", tuple(self.channel_multipliers))
        object.__setattr__(self, "attention_sizes", tuple(self.attention_sizes))
        for name in (
            "image_size",
            "image_channels",
            "classes",
            "base_channels",
            "residual_blocks",
            "head_channels",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; give a whole number of at least 1")
        if not self.channel_multipliers:
            raise InputError("channel_multipliers is empty; give one multiplier a level, such as 1 2 3 4")
        for multiplier, width in zip(self.channel_multipliers, self.widths, strict=True):
            if width < GROUPS or width % GROUPS:
                raise InputError(
                    f"base_channels {self.base_channels} times multiplier {multiplier} is {width}; "
                    f"every width must be a multiple of {GROUPS}"
                )
        if self.image_size % 2 ** (len(self.widths) - 1):
            raise InputError(
                f"image_size {self.image_size} cannot be halved {len(self.widths) - 1} times; "
                f"give a multiple of {2 ** (len(self.widths) - 1)} or fewer channel_multipliers"
            )
        for size in self.attention_sizes:
            if size not in self.sizes:
                raise InputError(
                    f"attention_sizes has {size}; the feature maps have the sides {list(self.sizes)}"
                )
            width = self.widths[self.sizes.index(size)]
            if width % self.head_channels:
                raise InputError(
                    f"head_channels {self.head_channels} does not divide the width {width} at side {size}"
                )
        if self.widths[-1] % self.head_channels:
            raise InputError(
                f"head_channels {self.head_channels} does not divide the middle's width {self.widths[-1]}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout!r}; give a probability of at least 0 and below 1")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return tuple(int(multiplier * self.base_channels) for multiplier in self.channel_multipliers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of the feature maps of each level, in pixels, the finest first."""
        return tuple(self.image_size // 2**level for level in range(len(self.channel_multipliers)))

    def to_document(self) -> dict[str, Any]:
        """The fields as JSON values."""
        document = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in document.items()}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "UNetConfig":
        """The configuration that ``to_document`` wrote.

        Raises:
            InputError: A field is missing, unknown, or impossible.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if set(document) != known:
            wrong = sorted(set(document) ^ known)
            raise InputError(f"the configuration of a network has the fields {sorted(known)}; check {wrong}")
        return cls(**document)


def tiny(image_channels: int = 1, classes: int = 6) -> UNetConfig:
    """Seconds a step on a CPU, at 32 px: for tests and for the demonstration."""
    return UNetConfig(
        image_size=32,
        image_channels=image_channels,
        classes=classes,
        base_channels=32,
        channel_multipliers=(1, 2),
        residual_blocks=1,
        attention_sizes=(16,),
        head_channels=32,
    )


def cpu(image_channels: int = 1, classes: int = 6) -> UNetConfig:
    """Trains in about an hour on two cores, at 64 px."""
    return UNetConfig(
        image_size=64,
        image_channels=image_channels,
        classes=classes,
        base_channels=32,
        channel_multipliers=(1, 2, 3, 4),
        attention_sizes=(16, 8),
        head_channels=32,
    )


def luna256(image_channels: int = 1, classes: int = 6) -> UNetConfig:
    """The published setting, at 256 px, for GPUs."""
    return UNetConfig(image_channels=image_channels, classes=classes)

"""The shape of the networks, as a frozen configuration with named presets."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from lungforge.errors import InputError

#: The choices of ``GauGANConfig.norm``.
INSTANCE, BATCH = "instance", "batch"


@dataclass(frozen=True)
class GauGANConfig:
    """What decides the tensors of generator, encoder and discriminator."""

    image_size: int = 256
    """Side of the square images, in pixels."""
    image_channels: int = 1
    """Channels of the images: 1 for CT, 3 for colour."""
    classes: int = 6
    """Channels of the one-hot maps."""
    base_channels: int = 64
    """Width that the multipliers multiply; also the width of the encoder's first layer."""
    channel_multipliers: tuple[int, ...] = (16, 16, 16, 8, 4, 2, 1)
    """Width of each residual block of the generator, coarsest first; each doubles the side."""
    latent_channels: int = 256
    """Length of the noise z of an image; 0 starts from the map alone: one image a map."""
    encoder: bool = True
    """Whether an encoder of real images shapes z while training, as in a variational autoencoder."""
    norm: str = INSTANCE
    """What the map modulates: instance (each image alone) or batch (over all workers) normalisation."""
    discriminator_channels: int = 64
    """Width of the discriminator's first layer."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        object.__setattr__(self, "channel_multipliers", tuple(self.channel_multipliers))
        for name in ("image_size", "image_channels", "classes", "base_channels", "discriminator_channels"):
            _require_whole(name, getattr(self, name), least=1)
        _require_whole("latent_channels", self.latent_channels, least=0)
        if not self.channel_multipliers:
            raise InputError("channel_multipliers is empty; give one multiplier a block, such as 8 4 2 1")
        for multiplier in self.channel_multipliers:
            _require_whole("channel_multipliers", multiplier, least=1)
        factor = 2 ** (len(self.channel_multipliers) - 1)
        if self.image_size % factor or self.image_size < max(2 * factor, 8):
            raise InputError(
                f"image_size is {self.image_size}; {len(self.channel_multipliers)} channel_multipliers need "
                f"a multiple of {factor}, at least {max(2 * factor, 8)}; give such a size or other ones"
            )
        if not isinstance(self.encoder, bool):
            raise InputError(f"encoder is {self.encoder!r}; give true or false")
        if self.encoder and not self.latent_channels:
            raise InputError(
                "encoder is on, but latent_channels is 0; give latent_channels or turn the encoder off"
            )
        if self.norm not in (INSTANCE, BATCH):
            raise InputError(f"norm is {self.norm!r}; choose {INSTANCE} or {BATCH}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that each residual block of the generator gives, the coarsest first."""
        return tuple(multiplier * self.base_channels for multiplier in self.channel_multipliers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of the feature maps of each residual block, in pixels, the coarsest first."""
        last = len(self.channel_multipliers) - 1
        return tuple(self.image_size // 2 ** (last - block) for block in range(last + 1))

    def to_document(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**dataclasses.asdict(self), "channel_multipliers": list(self.channel_multipliers)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "GauGANConfig":
        """The configuration that ``to_document`` wrote.

        Raises:
            InputError: A field is missing, unknown, or impossible.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if set(document) != known:
            wrong = sorted(set(document) ^ known)
            raise InputError(f"the configuration of a GauGAN has the fields {sorted(known)}; check {wrong}")
        if not isinstance(document["channel_multipliers"], list):
            raise InputError(f"channel_multipliers is {document['channel_multipliers']!r}; give a list")
        return cls(**document)


def _require_whole(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} has {value!r}; give a whole number of at least {least}")


def tiny(image_channels: int = 1, classes: int = 6) -> GauGANConfig:
    """A fraction of a second a step on a CPU, at 32 px: for tests and for the demonstration."""
    return GauGANConfig(
        image_size=32,
        image_channels=image_channels,
        classes=classes,
        base_channels=8,
        channel_multipliers=(8, 4, 2, 1),
        latent_channels=16,
        discriminator_channels=8,
    )


def cpu(image_channels: int = 1, classes: int = 6) -> GauGANConfig:
    """Trains in about an hour on two cores, at 64 px."""
    return GauGANConfig(
        image_size=64,
        image_channels=image_channels,
        classes=classes,
        base_channels=16,
        channel_multipliers=(16, 8, 4, 2, 1),
        latent_channels=64,
        discriminator_channels=32,
    )


def luna256(image_channels: int = 1, classes: int = 6) -> GauGANConfig:
    """The published setting, at 256 px, for GPUs."""
    return GauGANConfig(image_channels=image_channels, classes=classes)

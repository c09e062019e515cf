"""The shape of the networks, and the presets."""

from dataclasses import dataclass, field
from typing import Final, Literal

from lungforge.config import NOT_EMPTY, at_least, check, option
from lungforge.errors import InputError
from lungforge.models.base import DataShape, LearnerOptions, NetworkOptions, Preset

#: The choices of ``GauGANConfig.norm``.
INSTANCE: Final = "instance"
BATCH: Final = "batch"


@dataclass(frozen=True)
class GauGANOptions(NetworkOptions):
    """What may be chosen of generator, encoder and discriminator."""

    base_channels: int = field(default=64, metadata=at_least(1))
    """Width that the multipliers multiply; also the width of the encoder's first layer."""
    channel_multipliers: tuple[int, ...] = field(
        default=(16, 16, 16, 8, 4, 2, 1), metadata=NOT_EMPTY | at_least(1)
    )
    """Width of each residual block of the generator, coarsest first; each doubles the side."""
    latent_channels: int = field(default=256, metadata=at_least(0))
    """Length of the noise z of an image; 0 starts from the map alone: one image a map."""
    discriminator_channels: int = field(default=64, metadata=at_least(1))
    """Width of the discriminator's first layer."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        check(self)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that each residual block of the generator gives, the coarsest first."""
        return tuple(multiplier * self.base_channels for multiplier in self.channel_multipliers)


@dataclass(frozen=True)
class GauGANConfig(GauGANOptions, DataShape):
    """What decides the tensors of generator, encoder and discriminator."""

    encoder: bool = True
    """Whether an encoder of real images shapes z while training, as in a variational autoencoder."""
    norm: Literal["instance", "batch"] = INSTANCE
    """What the map modulates: instance (each image alone) or batch (over all workers) normalisation."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        super().__post_init__()
        if self.encoder and not self.latent_channels:
            raise InputError(
                f"the encoder is on, but {option('latent_channels')} is 0; give at least 1 or turn it off"
            )
        factor = 2 ** (len(self.channel_multipliers) - 1)
        if self.image_size % factor or self.image_size < max(2 * factor, 8):
            raise InputError(
                f"image_size is {self.image_size}; {len(self.channel_multipliers)} "
                f"{option('channel_multipliers')} need a multiple of {factor}, "
                f"at least {max(2 * factor, 8)}; give such a size or other ones"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Side of the feature maps of each residual block, in pixels, the coarsest first."""
        last = len(self.channel_multipliers) - 1
        return tuple(self.image_size // 2 ** (last - block) for block in range(last + 1))


#: ``tiny`` takes a fraction of a second a step on a CPU, ``cpu`` an hour on two cores, ``luna256`` is the
#: published setting. The optimiser scales gradients by itself: their norm is not limited.
PRESETS = {
    "tiny": Preset(
        GauGANOptions(
            base_channels=8, channel_multipliers=(8, 4, 2, 1), latent_channels=16, discriminator_channels=8
        ),
        LearnerOptions(),
        image_size=32,
        learning_rate=2e-4,
        max_grad_norm=None,
    ),
    "cpu": Preset(
        GauGANOptions(
            base_channels=16,
            channel_multipliers=(16, 8, 4, 2, 1),
            latent_channels=64,
            discriminator_channels=32,
        ),
        LearnerOptions(),
        image_size=64,
        max_grad_norm=None,
    ),
    "luna256": Preset(GauGANOptions(), LearnerOptions(), image_size=256, max_grad_norm=None),
}

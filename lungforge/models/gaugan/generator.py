"""The generator: from noise on a coarse grid to an image, modulated by the map at every scale."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.errors import InputError
from lungforge.models.gaugan.config import BATCH, GauGANConfig
from lungforge.models.gaugan.spectral_norm import folded_state, normalise_convolutions
from lungforge.models.spade import SemanticMap, SpadeModulation

#: Slope of the leaky ReLU for negative values, in all networks.
SLOPE = 0.2


class SpadeResidualBlock(nn.Module):
    """A residual block whose normalisations are modulated by the map; figure 4 of the paper.

    The path normalises, modulates, activates and convolves twice; between, it has the smaller of the two
    widths. Where the widths differ, the shortcut is normalised, modulated and convolved as well.
    """

    def __init__(self, width: int, out_width: int, classes: int, norm: str) -> None:
        super().__init__()
        middle = min(width, out_width)
        self.norm_0 = _normalisation(norm, width)
        self.norm_1 = _normalisation(norm, middle)
        self.modulation_0 = SpadeModulation(width, classes)
        self.modulation_1 = SpadeModulation(middle, classes)
        self.conv_0 = nn.Conv2d(width, middle, 3, padding=1)
        self.conv_1 = nn.Conv2d(middle, out_width, 3, padding=1)
        self.learned = width != out_width
        if self.learned:
            self.modulation_shortcut = SpadeModulation(width, classes)
            self.conv_shortcut = nn.Conv2d(width, out_width, 1, bias=False)

    def forward(self, x: Tensor, semantic_map: SemanticMap) -> Tensor:
        """Features [N, width, H, W] to [N, out_width, H, W]."""
        # The normalisation has no parameters, so that path and shortcut share it.
        normalised = self.norm_0(x)
        h = _modulate(normalised, self.modulation_0, semantic_map)
        h = self.conv_0(F.leaky_relu(h, SLOPE))
        h = _modulate(self.norm_1(h), self.modulation_1, semantic_map)
        h = self.conv_1(F.leaky_relu(h, SLOPE))
        if self.learned:
            x = self.conv_shortcut(_modulate(normalised, self.modulation_shortcut, semantic_map))
        return x + h


class Generator(nn.Module):
    """Maps and noise to images.

    Args:
        config: The shape.
        spectral: Whether the convolutions are normalised, as training needs. Without, the weights are
            taken as they are: that is what ``fold`` gives and a checkpoint holds.

    Attributes:
        config: The shape.
    """

    def __init__(self, config: GauGANConfig, *, spectral: bool = True) -> None:
        super().__init__()
        self.config = config
        widths, grid = config.widths, config.sizes[0]
        self.start: nn.Module
        if config.latent_channels:
            self.start = nn.Linear(config.latent_channels, widths[0] * grid * grid)
        else:
            self.start = nn.Conv2d(config.classes, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(width, out_width, config.classes, config.norm)
            for width, out_width in zip((widths[0], *widths), widths, strict=False)
        )
        self.to_image = nn.Conv2d(widths[-1], config.image_channels, 3, padding=1)
        if spectral:
            normalise_convolutions(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Tensor, z: Tensor | None) -> Tensor:
        """Generate images, in the mode that the network is in.

        Args:
            maps: One-hot maps [N, classes, H, W] as ``one_hot`` makes them.
            z: Standard normal noise, or what an encoder gives, [N, latent_channels]; None for a network
                without.

        Returns:
            Images [N, C, H, W] in [-1, 1].

        Raises:
            InputError: The maps or z have another shape than the network's.
        """
        self._check(maps, z)
        semantic_map = SemanticMap(maps.to(self.to_image.weight.dtype))
        grid = self.config.sizes[0]
        if z is None:
            h = self.start(semantic_map.at(grid)[0])
        else:
            h = self.start(z).unflatten(1, (-1, grid, grid)).contiguous(memory_format=torch.channels_last)
        for index, block in enumerate(self.blocks):
            if index:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
            h = block(h, semantic_map)
        return torch.tanh(self.to_image(F.leaky_relu(h, SLOPE)))

    def _check(self, maps: Tensor, z: Tensor | None) -> None:
        config = self.config
        expected = (config.classes, config.image_size, config.image_size)
        if tuple(maps.shape[1:]) != expected:
            raise InputError(
                f"the maps are {tuple(maps.shape[1:])} (classes, rows, columns); expected {expected}"
            )
        if z is None and config.latent_channels:
            raise InputError(
                f"this generator needs noise z of {config.latent_channels} values an image; none was given"
            )
        if z is not None and not config.latent_channels:
            raise InputError("this generator takes no noise z, as its latent_channels is 0; leave z out")
        if z is not None and tuple(z.shape) != (len(maps), config.latent_channels):
            raise InputError(
                f"z has the shape {tuple(z.shape)}; these maps need {(len(maps), config.latent_channels)}"
            )


@torch.inference_mode()
def generate(generator: Generator, maps: Tensor, z: Tensor | None) -> Tensor:
    """Generate images in one pass; each depends on its own map and z alone.

    Args:
        generator: In evaluation mode, as ``fold`` and a checkpoint give it.
        maps: One-hot maps [N, classes, H, W].
        z: Standard normal noise [N, latent_channels], each row from its image's own random generator; None
            for a network without.

    Returns:
        Images, float32 [N, C, H, W] in [-1, 1].

    Raises:
        InputError: The maps or z have another shape than the network's.
    """
    assert not generator.training
    return generator(maps, z).float()


def fold(generator: Generator) -> Generator:
    """The same generator in evaluation mode with spectral normalisation worked into its weights.

    This is what a moving average must be taken of, and what a checkpoint holds. The weights are copies.
    """
    with torch.device("meta"):
        plain = Generator(generator.config, spectral=False)
    plain.load_state_dict(folded_state(generator), assign=True)
    return plain.to(memory_format=torch.channels_last).eval()


def _normalisation(norm: str, width: int) -> nn.Module:
    if norm == BATCH:
        # The training service turns it into its synchronised form, which has the same state dict.
        return nn.BatchNorm2d(width, affine=False)
    # A group a channel is instance normalisation, and works in channels-last memory.
    return nn.GroupNorm(width, width, affine=False)


def _modulate(normalised: Tensor, modulation: SpadeModulation, semantic_map: SemanticMap) -> Tensor:
    values = modulation.modulation(semantic_map, normalised.shape[2]).whole()
    return torch.addcmul(values.shift, normalised, values.scale)

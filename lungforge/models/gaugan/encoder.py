"""The encoder: the distribution of z that a real image stands for.

It makes generator and encoder a variational autoencoder (section 3 and appendix A of arXiv 1903.07291).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lungforge.errors import InputError
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import SLOPE
from lungforge.models.gaugan.spectral_norm import normalise_convolutions

#: Width of each layer in units of the base width; each halves the side.
MULTIPLIERS = (1, 2, 4, 8, 8, 8)
#: No layer is added that would leave a smaller side.
SMALLEST_SIZE = 4


class Encoding(NamedTuple):
    """A Gaussian with independent components for each image: two tensors [N, latent_channels]."""

    mean: Tensor
    log_variance: Tensor


class Encoder(nn.Module):
    """Real images [N, C, H, W] in [-1, 1] to distributions of z; needed in training only."""

    def __init__(self, config: GauGANConfig) -> None:
        super().__init__()
        if not config.encoder:
            raise InputError("the configuration has encoder off; turn it on to build one")
        self.config = config
        width, size = config.image_channels, config.image_size
        layers: list[nn.Module] = []
        for multiplier in MULTIPLIERS:
            if layers and size // 2 < SMALLEST_SIZE:
                break
            out_width = multiplier * config.base_channels
            layers += [
                nn.Conv2d(width, out_width, 3, stride=2, padding=1),
                nn.InstanceNorm2d(out_width),
                nn.LeakyReLU(SLOPE),
            ]
            width, size = out_width, (size + 1) // 2
        self.layers = nn.Sequential(*layers)
        self.mean = nn.Linear(width * size * size, config.latent_channels)
        self.log_variance = nn.Linear(width * size * size, config.latent_channels)
        normalise_convolutions(self)

    def forward(self, images: Tensor) -> Encoding:
        """The distribution of z for each image.

        Raises:
            InputError: The images have another shape than the network's.
        """
        config = self.config
        expected = (config.image_channels, config.image_size, config.image_size)
        if tuple(images.shape[1:]) != expected:
            raise InputError(
                f"the images are {tuple(images.shape[1:])} (channels, rows, columns); expected {expected}"
            )
        features = self.layers(images).flatten(1)
        return Encoding(self.mean(features), self.log_variance(features))


def reparameterise(encoding: Encoding, noise: Tensor) -> Tensor:
    """Draw z [N, latent_channels] so that the gradient reaches the encoder (arXiv 1312.6114, section 2.4).

    Args:
        encoding: The distributions.
        noise: Standard normal [N, latent_channels].
    """
    return torch.addcmul(encoding.mean, (0.5 * encoding.log_variance).exp(), noise)


def kl_divergence(encoding: Encoding) -> Tensor:
    """Kullback-Leibler divergence from the standard normal of each image [N], in nats.

    Appendix B of arXiv 1312.6114, in float32.
    """
    mean, log_variance = encoding.mean.float(), encoding.log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)

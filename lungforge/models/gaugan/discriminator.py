"""The discriminator: does this patch of an image belong to this map? Asked at two scales.

The multi-scale PatchGAN of pix2pixHD (Wang et al., arXiv 1711.11585) as in appendix A of arXiv 1903.07291.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import SLOPE

#: Scales that an image is looked at; each has half the side of the one before.
SCALES = 2
#: Width, in units of the first, and stride of each layer but the last.
LAYERS = ((1, 2), (2, 2), (4, 2), (8, 1))


class Judgement(NamedTuple):
    """What one scale makes of images.

    Attributes:
        features: Output of each layer but the last, [N, width, rows, columns] each.
        scores: Output of the last layer, [N, 1, rows, columns]: above 0 for patches taken to be real.
    """

    features: tuple[Tensor, ...]
    scores: Tensor


class PatchDiscriminator(nn.Module):
    """A score for every patch of an image beside its map."""

    def __init__(self, config: GauGANConfig) -> None:
        super().__init__()
        width = config.classes + config.image_channels
        layers: list[nn.Module] = []
        for index, (multiplier, stride) in enumerate(LAYERS):
            out_width = multiplier * config.discriminator_channels
            # A padding of 2 keeps some patches in the smallest images.
            convolution = nn.Conv2d(width, out_width, 4, stride=stride, padding=2)
            if index == 0:
                layers.append(nn.Sequential(convolution, nn.LeakyReLU(SLOPE)))
            else:
                norm = nn.GroupNorm(out_width, out_width, affine=False)  # instance normalisation
                layers.append(nn.Sequential(spectral_norm(convolution), norm, nn.LeakyReLU(SLOPE)))
            width = out_width
        self.layers = nn.ModuleList(layers)
        self.score = nn.Conv2d(width, 1, 4, padding=2)

    def forward(self, pairs: Tensor) -> Judgement:
        """Maps and images, one upon the other, [N, classes + C, H, W] to features and scores."""
        features = []
        for layer in self.layers:
            pairs = layer(pairs)
            features.append(pairs)
        return Judgement(tuple(features), self.score(pairs))


class Discriminator(nn.Module):
    """The judgement at every scale, the finest first."""

    def __init__(self, config: GauGANConfig) -> None:
        super().__init__()
        self.config = config
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(SCALES))
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Tensor, images: Tensor) -> tuple[Judgement, ...]:
        """One-hot maps [N, classes, H, W] and images [N, C, H, W] to a judgement a scale."""
        pairs = torch.cat([maps, images], dim=1).contiguous(memory_format=torch.channels_last)
        judgements = []
        for index, scale in enumerate(self.scales):
            if index:
                pairs = F.avg_pool2d(pairs, 3, stride=2, padding=1, count_include_pad=False)
            judgements.append(scale(pairs))
        return tuple(judgements)

"""The losses of both players, each as named terms; every mean is over images, so batches can be split.

Sources: hinge loss (arXiv 1705.02894, 1802.05957), feature matching and perceptual loss (pix2pixHD,
arXiv 1711.11585), weights of arXiv 1903.07291.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.models.gaugan.discriminator import Judgement
from lungforge.models.gaugan.encoder import Encoding, kl_divergence

FEATURE_MATCHING_WEIGHT = 10.0
PERCEPTUAL_WEIGHT = 10.0
KL_WEIGHT = 0.05

#: The settings of Adam: two time scales (arXiv 1706.08500), one step of each player in turn.
GENERATOR_RATE = 1e-4
DISCRIMINATOR_RATE = 4e-4
ADAM_BETAS = (0.0, 0.9)

#: A frozen, pretrained network: images [N, C, H, W] in [-1, 1] to feature maps, with their weights worked in.
Backbone = Callable[[Tensor], Sequence[Tensor]]


class GeneratorLoss(NamedTuple):
    """Terms of the generator's and encoder's loss, before their weights; a term that is off is None."""

    total: Tensor
    adversarial: Tensor
    feature_matching: Tensor
    perceptual: Tensor | None
    kl: Tensor | None


class DiscriminatorLoss(NamedTuple):
    """Terms of the discriminator's loss: ``total = real + fake``."""

    total: Tensor
    real: Tensor
    fake: Tensor


def generator_loss(
    discriminator: nn.Module,
    maps: Tensor,
    real: Tensor,
    fake: Tensor,
    encoding: Encoding | None = None,
    backbone: Backbone | None = None,
) -> GeneratorLoss:
    """What generator and encoder make smaller. The discriminator gets no gradient.

    Args:
        discriminator: A ``Discriminator``.
        maps: One-hot maps [N, classes, H, W].
        real: Images [N, C, H, W] in [-1, 1].
        fake: What the generator made of the same maps.
        encoding: The distributions that z was sampled from; without, there is no KL term.
        backbone: For the perceptual term; without, there is none. An untrained network must not stand in.
            Features that the images are later judged by would make that judgement too kind.
    """
    with _frozen(discriminator):
        fakes, reals = _judge_both(discriminator, maps, fake, real)
    adversarial = torch.stack([-judgement.scores.float().mean() for judgement in fakes]).mean()
    matching = feature_matching(fakes, reals)
    total = adversarial + FEATURE_MATCHING_WEIGHT * matching
    perceptual = kl = None
    if backbone is not None:
        perceptual = perceptual_distance(backbone, fake, real)
        total = total + PERCEPTUAL_WEIGHT * perceptual
    if encoding is not None:
        kl = kl_divergence(encoding).mean()
        total = total + KL_WEIGHT * kl
    return GeneratorLoss(total, adversarial, matching, perceptual, kl)


def discriminator_loss(
    discriminator: nn.Module, maps: Tensor, real: Tensor, fake: Tensor
) -> DiscriminatorLoss:
    """What the discriminator makes smaller. The generator gets no gradient.

    Args:
        discriminator: A ``Discriminator``.
        maps: One-hot maps [N, classes, H, W].
        real: Images [N, C, H, W] in [-1, 1].
        fake: What the generator made of the same maps.
    """
    fakes, reals = _judge_both(discriminator, maps, fake.detach(), real)
    return hinge_loss(
        [judgement.scores for judgement in reals],
        [judgement.scores for judgement in fakes],
    )


def hinge_loss(real_scores: Sequence[Tensor], fake_scores: Sequence[Tensor]) -> DiscriminatorLoss:
    """``max(0, 1 - score)`` of real patches plus ``max(0, 1 + score)`` of generated; mean of the scales."""
    real = torch.stack([F.relu(1 - scores.float()).mean() for scores in real_scores]).mean()
    fake = torch.stack([F.relu(1 + scores.float()).mean() for scores in fake_scores]).mean()
    return DiscriminatorLoss(real + fake, real, fake)


def feature_matching(fakes: Sequence[Judgement], reals: Sequence[Judgement]) -> Tensor:
    """Mean absolute difference of the discriminator's features: sum of the layers, mean of the scales."""
    scales = [_distance(fake.features, real.features) for fake, real in zip(fakes, reals, strict=True)]
    return torch.stack(scales).mean()


def perceptual_distance(backbone: Backbone, fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of a pretrained network's feature maps, the sum of the maps."""
    with torch.no_grad():
        wanted = backbone(real)
    return _distance(backbone(fake), wanted)


def _distance(fakes: Sequence[Tensor], reals: Sequence[Tensor]) -> Tensor:
    pairs = zip(fakes, reals, strict=True)
    return torch.stack([F.l1_loss(fake.float(), real.detach().float()) for fake, real in pairs]).sum()


def _judge_both(
    discriminator: nn.Module, maps: Tensor, fake: Tensor, real: Tensor
) -> tuple[list[Judgement], list[Judgement]]:
    """Judgements of generated and of real images, from one pass: both see the same normalised weights."""
    judgements = discriminator(torch.cat([maps, maps]), torch.cat([fake, real.to(fake.dtype)]))
    fakes, reals = [], []
    for features, scores in judgements:
        halves = [feature.chunk(2) for feature in features]
        fake_scores, real_scores = scores.chunk(2)
        fakes.append(Judgement(tuple(half[0] for half in halves), fake_scores))
        reals.append(Judgement(tuple(half[1] for half in halves), real_scores))
    return fakes, reals


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Record no gradient for the parameters of a module within the block."""
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)

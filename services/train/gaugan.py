"""The GauGAN baseline in training: one step of each player in turn, from the same drawn images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lungforge.models.ema import MovingAverage
from lungforge.models.gaugan.checkpoint import build, to_document
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.discriminator import Discriminator
from lungforge.models.gaugan.encoder import Encoder, Encoding, reparameterise
from lungforge.models.gaugan.generator import Generator
from lungforge.models.gaugan.losses import (
    ADAM_BETAS,
    DISCRIMINATOR_RATE,
    GENERATOR_RATE,
    discriminator_loss,
    generator_loss,
)
from lungforge.models.gaugan.spectral_norm import folded_state, iterate_once
from lungforge.models.generators import GauGANPainter
from lungforge.randomness import seed_of
from services.train.batches import Batch
from services.train.config import TrainConfig
from services.train.learner import (
    Distribute,
    Learner,
    Trained,
    autocast,
    gradients_shared,
    mean_over_workers,
)

#: How much faster the discriminator learns than the generator (two time scales, arXiv 1706.08500).
_RATE_RATIO = DISCRIMINATOR_RATE / GENERATOR_RATE


class Autoencoder(nn.Module):
    """Encoder and generator in one forward pass, as distributed training wants them."""

    def __init__(self, shape: GauGANConfig) -> None:
        super().__init__()
        self.encoder = Encoder(shape)
        self.generator = Generator(shape)

    def forward(self, images: Tensor, maps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn images, and mean and log variance of the distribution that z was drawn from."""
        encoding = self.encoder(images)
        return self.generator(maps, reparameterise(encoding, noise)), encoding.mean, encoding.log_variance


class AdversarialLearner(Learner):
    """Both players, their optimisers, and the moving average of the generator's divided weights.

    There is no perceptual loss: no pretrained network other than the one that the images are judged by
    comes with a package.

    Args:
        config: Of the run.
        shape: Of the networks.
        distribute: Puts a module on its device and shares its gradients among the workers.
        averages: Whether this worker keeps the moving average.
    """

    METRICS = (
        "generator_loss",
        "adversarial",
        "feature_matching",
        "kl",
        "discriminator_loss",
        "generator_gradient_norm",
        "discriminator_gradient_norm",
    )
    # The losses of two players say who is ahead, not whether the images get better.
    WATCHED = None

    def __init__(
        self, config: TrainConfig, shape: GauGANConfig, *, distribute: Distribute, averages: bool
    ) -> None:
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(config.seed, "weights"))
            autoencoder, discriminator = Autoencoder(shape), Discriminator(shape)
        self.generator = autoencoder.generator
        self._autoencoder, self._discriminator = distribute(autoencoder), distribute(discriminator)
        super().__init__(
            config,
            [
                Trained(name, network, torch.optim.Adam(network.parameters(), betas=ADAM_BETAS))
                for name, network in (("generator", autoencoder), ("discriminator", discriminator))
            ],
            MovingAverage(folded_state(self.generator), config.average_decay) if averages else None,
            noise_shape=(shape.latent_channels,),
            timesteps=1,
        )

    @override
    def step(self, pieces: Sequence[Batch], step: int) -> list[float]:
        for network in self.trained:
            iterate_once(network.network)
        losses = torch.zeros(5, device=self.device)
        for number, piece in enumerate(pieces, 1):
            with gradients_shared([self._autoencoder, self._discriminator], share=number == len(pieces)):
                losses += self._backward(piece.to(self.device), len(pieces))
        norms = [network.clip(self.config.clip) for network in self.trained]
        metrics = [*mean_over_workers(losses).tolist(), *norms]
        self.require_finite(metrics, step)
        rate = self.rate(self.config.learning_rate, step)
        for network, factor in zip(self.trained, (1, _RATE_RATIO), strict=True):
            network.step(rate * factor)
        if self.average is not None:
            self.average.update(folded_state(self.generator))
        return metrics

    def _backward(self, batch: Batch, pieces: int) -> Tensor:
        """Add a piece's part to the gradients of both players; its part of the losses, [5]."""
        with autocast(self.device, self.config.precision):
            fake, mean, log_variance = self._autoencoder(batch.images, batch.maps, batch.noise)
            generator = generator_loss(
                self.trained[1].network, batch.maps, batch.images, fake, Encoding(mean, log_variance)
            )
        (generator.total / pieces).backward()
        with autocast(self.device, self.config.precision):
            discriminator = discriminator_loss(self._discriminator, batch.maps, batch.images, fake)
        (discriminator.total / pieces).backward()
        assert generator.kl is not None
        terms = (generator.total, generator.adversarial, generator.feature_matching, generator.kl)
        return torch.stack([*terms, discriminator.total]).detach() / pieces

    @override
    def document(self) -> dict[str, Any]:
        return to_document(self.shape)

    @override
    def painter(self) -> GauGANPainter:
        assert self.average is not None
        return GauGANPainter(build(self.shape, self.average.weights).to(self.device))

"""The GauGAN baseline in training: one step of each player in turn, from the same generated images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from lungforge.models.device_choices import autocast, optimiser_options
from lungforge.models.ema import MovingAverages
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
from lungforge.models.gaugan.slice_sampler import GauGANSliceSampler
from lungforge.models.gaugan.spectral_norm import folded_state, iterate_once
from lungforge.models.gaugan.weights import build
from lungforge.models.learner import (
    Batch,
    Distribute,
    Learner,
    SampleNeeds,
    Trained,
    TrainingSettings,
    gradients_shared,
    mean_over_workers,
)
from lungforge.randomness import seed_of

#: How much faster the discriminator learns than the generator (two time scales, arXiv 1706.08500).
_RATE_RATIO = DISCRIMINATOR_RATE / GENERATOR_RATE


class Autoencoder(nn.Module):
    """Encoder and generator in one forward pass, as distributed training wants them."""

    def __init__(self, config: GauGANConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.generator = Generator(config)

    def forward(self, images: Tensor, maps: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Generated images, and mean and log variance of the distribution that z was sampled from."""
        encoding = self.encoder(images)
        return self.generator(maps, reparameterise(encoding, noise)), encoding.mean, encoding.log_variance


class AdversarialLearner(Learner):
    """Both players, their optimisers, and the moving average of the generator's divided weights.

    There is no perceptual loss: no pretrained network other than the one that the images are judged by
    comes with a package.

    Args:
        config: The networks.
        settings: Of the run.
        distribute: Puts a module on its device and shares its gradients among the workers.
        averages: Whether this worker keeps the moving averages.
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
    WATCHED = ()

    def __init__(
        self, config: GauGANConfig, settings: TrainingSettings, *, distribute: Distribute, averages: bool
    ) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(settings.seed, "weights"))
            autoencoder, discriminator = Autoencoder(config), Discriminator(config)
        self.generator = autoencoder.generator
        self._autoencoder, self._discriminator = distribute(autoencoder), distribute(discriminator)
        super().__init__(
            settings,
            SampleNeeds(noise_shape=(config.latent_channels,)),
            [
                Trained(name, network, _adam(network))
                for name, network in (("generator", autoencoder), ("discriminator", discriminator))
            ],
            MovingAverages(folded_state(self.generator), settings.average_lengths) if averages else None,
        )

    @override
    def step(self, micro_batches: Sequence[Batch], step: int) -> Tensor:
        for network in self.trained:
            iterate_once(network.network)
        losses, count = torch.zeros(5, device=self.device), len(micro_batches)
        for index, micro_batch in enumerate(micro_batches, 1):
            with gradients_shared([self._autoencoder, self._discriminator], share=index == count):
                losses += self._backward(micro_batch.to(self.device), count)
        norms = [network.clip_grad_norm(self.settings.max_grad_norm) for network in self.trained]
        rate = self.rate(self.settings.learning_rate, step)
        for network, factor in zip(self.trained, (1, _RATE_RATIO), strict=True):
            network.step(rate * factor)
        if self.average is not None:
            self.average.update(folded_state(self.generator))
        return torch.cat([mean_over_workers(losses), torch.stack(norms)])

    def _backward(self, batch: Batch, count: int) -> Tensor:
        """Add a micro-batch, one of ``count``, to the gradients of both; its part of the losses, [5]."""
        maps = batch.maps
        with autocast(self.device, self.settings.precision):
            fake, mean, log_variance = self._autoencoder(batch.images, maps, batch.noise)
            generator = generator_loss(
                self.trained[1].network, maps, batch.images, fake, Encoding(mean, log_variance)
            )
        (generator.total / count).backward()
        with autocast(self.device, self.settings.precision):
            discriminator = discriminator_loss(self._discriminator, maps, batch.images, fake)
        (discriminator.total / count).backward()
        assert generator.kl is not None
        terms = (generator.total, generator.adversarial, generator.feature_matching, generator.kl)
        return torch.stack([*terms, discriminator.total]).detach() / count

    @override
    def sampler(self) -> GauGANSliceSampler:
        assert self.average is not None
        return GauGANSliceSampler(build(self.config, self.average.weights).to(self.device))


def _adam(network: nn.Module) -> torch.optim.Adam:
    weights = list(network.parameters())
    return torch.optim.Adam(weights, betas=ADAM_BETAS, **optimiser_options(weights[0].device))

"""The semantic diffusion model in training."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lungforge.models.ema import MovingAverage
from lungforge.models.generators import DiffusionPainter
from lungforge.models.sdm.blocks import Attention, ResidualBlock, SpadeBlock
from lungforge.models.sdm.checkpoint import build, to_document
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.diffusion import Schedule, training_loss
from lungforge.models.sdm.unet import SemanticUNet
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

#: How previews are drawn: after few steps of training, only ancestral sampling gives pictures without noise.
_PREVIEW_STEPS = 50
_PREVIEW_GUIDANCE = 1.5


class DiffusionLoss(nn.Module):
    """The network with its loss in one forward pass, as distributed training wants it."""

    def __init__(self, network: SemanticUNet, schedule: Schedule, precision: str) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.precision = precision

    def forward(self, images: Tensor, maps: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Mean total, mse and vb of a batch, [3]."""

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            with autocast(x.device, self.precision):
                return self.network(x, t, maps)

        loss = training_loss(denoise, self.schedule, images, timesteps, noise)
        return torch.stack([loss.total.mean(), loss.mse.mean(), loss.vb.mean()])


class DiffusionLearner(Learner):
    """Network, optimiser and moving average of the semantic diffusion model.

    Args:
        config: Of the run.
        shape: Of the network.
        distribute: Puts the loss module on its device and shares its gradients among the workers.
        averages: Whether this worker keeps the moving average.
    """

    METRICS = ("loss", "mse", "vb", "gradient_norm")
    WATCHED = "loss"

    def __init__(
        self, config: TrainConfig, shape: UNetConfig, *, distribute: Distribute, averages: bool
    ) -> None:
        schedule = Schedule.linear()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(config.seed, "weights"))
            self.network = SemanticUNet(shape)
        self.network.checkpointing = config.activation_checkpointing
        if config.compile:
            for block in self.network.modules():
                if isinstance(block, (ResidualBlock, SpadeBlock, Attention)):
                    block.compile()
        self._loss = distribute(DiffusionLoss(self.network, schedule, config.precision))
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate, weight_decay=0.0)
        super().__init__(
            config,
            [Trained("network", self.network, optimiser)],
            MovingAverage(self.network.state_dict(), config.average_decay) if averages else None,
            noise_shape=(shape.image_channels, shape.image_size, shape.image_size),
            timesteps=len(schedule),
        )

    @override
    def step(self, pieces: Sequence[Batch], step: int) -> list[float]:
        self._loss.train()
        total = torch.zeros(3, device=self.device)
        for number, piece in enumerate(pieces, 1):
            with gradients_shared([self._loss], share=number == len(pieces)):
                batch = piece.to(self.device)
                losses = self._loss(batch.images, batch.maps, batch.timesteps, batch.noise) / len(pieces)
                losses[0].backward()
            total += losses.detach()
        norm = self.trained[0].clip(self.config.clip)
        metrics = [*mean_over_workers(total).tolist(), norm]
        self.require_finite(metrics, step)
        self.trained[0].step(self.rate(self.config.learning_rate, step))
        if self.average is not None:
            self.average.update(self.network.state_dict())
        return metrics

    @override
    def document(self) -> dict[str, Any]:
        return to_document(self.network.config)

    @override
    def painter(self) -> DiffusionPainter:
        assert self.average is not None
        network = build(self.network.config, self.average.weights).to(self.device)
        return DiffusionPainter(
            network, sampler="ancestral", steps=_PREVIEW_STEPS, guidance=_PREVIEW_GUIDANCE
        )

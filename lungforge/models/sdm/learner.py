"""The semantic diffusion model in training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from lungforge.models.base import SamplingOptions
from lungforge.models.device_choices import Precision, autocast, optimiser_options
from lungforge.models.ema import MovingAverages
from lungforge.models.learner import (
    Batch,
    Distribute,
    Learner,
    SampleNeeds,
    State,
    Trained,
    TrainingSettings,
    gradients_shared,
    mean_over_workers,
)
from lungforge.models.sdm.config import DiffusionOptions, UNetConfig
from lungforge.models.sdm.error_bands import BANDS, RunningErrors, shares_and_errors
from lungforge.models.sdm.objectives import Objective, objective_of
from lungforge.models.sdm.slice_sampler import DiffusionSliceSampler
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.models.sdm.weights import build
from lungforge.randomness import seed_of


class DiffusionLoss(nn.Module):
    """The network with its loss in one forward pass, as distributed training wants it."""

    def __init__(self, network: SemanticUNet, objective: Objective, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.precision = precision

    def forward(self, images: Tensor, maps: Tensor, times: Tensor, noise: Tensor, places: Tensor) -> Tensor:
        """Means over a batch: what the objective gives, and what it says of each band of noise."""

        def network(x: Tensor, t: Tensor) -> Tensor:
            with autocast(x.device, self.precision):
                return self.network(x, t, maps, places)

        losses = self.objective.loss(network, images, times, noise)
        error = self.objective.image_error([loss.detach() for loss in losses], times)
        errors = shares_and_errors(error, self.network.config.image_size)
        return torch.cat([torch.stack([loss.mean() for loss in losses]), errors])


class DiffusionLearner(Learner):
    """Network, optimiser and moving average of the semantic diffusion model.

    Args:
        config: The network.
        options: Objective, condition dropout, activation checkpointing, compilation.
        settings: Of the run.
        distribute: Puts the loss module on its device and shares its gradients among the workers.
        averages: Whether this worker keeps the moving averages.
    """

    # A change of the brightness that ruins every image hardly shows in the loss.
    WATCHED = ("loss", BANDS[-1])
    SUMMARY = BANDS

    def __init__(
        self,
        config: UNetConfig,
        options: DiffusionOptions,
        settings: TrainingSettings,
        *,
        distribute: Distribute,
        averages: bool,
    ) -> None:
        objective = objective_of(config)
        self.METRICS = (*objective.METRICS, *BANDS, "gradient_norm")
        self._losses = len(objective.METRICS)
        self._errors = RunningErrors(settings.batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(settings.seed, "weights"))
            self.network = SemanticUNet(config)
        self.network.checkpointing = options.activation_checkpointing
        if options.compile:
            self.network.compile_blocks()
        self._loss = distribute(DiffusionLoss(self.network, objective, settings.precision))
        weights = list(self.network.parameters())
        optimiser = torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=0.0, **optimiser_options(weights[0].device)
        )
        super().__init__(
            settings,
            SampleNeeds(
                noise_shape=(config.image_channels, config.image_size, config.image_size),
                draw_time=objective.draw_time,
                condition_dropout=options.condition_dropout,
            ),
            [Trained("network", self.network, optimiser)],
            MovingAverages(self.network.state_dict(), settings.average_lengths) if averages else None,
        )

    @override
    def step(self, micro_batches: Sequence[Batch], step: int) -> Tensor:
        self._loss.train()
        total = torch.zeros(self._losses + 2 * len(BANDS), device=self.device)
        count = len(micro_batches)
        for index, micro_batch in enumerate(micro_batches, 1):
            with gradients_shared([self._loss], share=index == count):
                batch = micro_batch.to(self.device)
                losses = self._loss(batch.images, batch.maps, batch.times, batch.noise, batch.places) / count
                losses[0].backward()
            total += losses.detach()
        norm = self.trained[0].clip_grad_norm(self.settings.max_grad_norm)
        self.trained[0].step(self.rate(self.settings.learning_rate, step))
        if self.average is not None:
            self.average.update(self.network.state_dict())
        return torch.cat([mean_over_workers(total), norm[None]])

    @override
    def metrics(self, measured: Sequence[float]) -> list[float]:
        *means, norm = measured
        return [*means[: self._losses], *self._errors.update(means[self._losses :]), norm]

    @override
    def state(self) -> State:
        return {**super().state(), "errors": self._errors.state_dict()}

    @override
    def load_state(self, state: State, steps: int) -> None:
        super().load_state(state, steps)
        self._errors.load_state_dict(state["errors"])

    @override
    def sampler(self) -> DiffusionSliceSampler:
        assert self.average is not None
        network = build(self.network.config, self.average.weights).to(self.device)
        return DiffusionSliceSampler(network, SamplingOptions())

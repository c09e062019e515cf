"""What an objective is: what the network predicts, how its input is scaled, and the training loss."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from lungforge.models.sdm.diffusion import Estimate, Network, NoiseSchedule


class ImageError(NamedTuple):
    """How far the image estimates of a batch are off.

    Attributes:
        sigma: Standard deviation of the noise in each image, beside a signal that is not scaled, [N].
        squared: Mean squared error of each estimate before it is clipped, in [-1, 1] units, [N].
    """

    sigma: Tensor
    squared: Tensor


class Objective(Protocol):
    """One way to train a denoiser. Pure: it has constants, and no state.

    Attributes:
        METRICS: Names of what ``loss`` gives, in this order; the first is minimised.
    """

    METRICS: ClassVar[tuple[str, ...]]

    def draw_time(self, generator: torch.Generator) -> float:
        """Draw how noisy a training image is, as ``loss`` takes it."""

    def loss(self, network: Network, x_0: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """The training losses of each image, [N] each.

        Args:
            network: With its conditioning.
            x_0: Images [N, C, H, W] in [-1, 1].
            times: What ``draw_time`` gave for each, [N].
            noise: Standard normal, like ``x_0``.
        """

    def image_error(self, losses: Sequence[Tensor], times: Tensor) -> ImageError:
        """What the losses say of the image estimates that they were computed from.

        Args:
            losses: What ``loss`` gave.
            times: What it was given.
        """

    def schedule(self, steps: int, *, even_in_noise: bool) -> NoiseSchedule:
        """The steps to take when sampling.

        Args:
            steps: How many.
            even_in_noise: Whether the sampler needs them spread over the levels of noise, as solvers do.

        Raises:
            InputError: There are no so many steps.
        """

    def estimate(self, network: Network, schedule: NoiseSchedule, x_t: Tensor, index: int) -> Estimate:
        """What the network says of noisy images [N, C, H, W] at a step of a schedule."""

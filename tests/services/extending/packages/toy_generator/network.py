"""The network, and how to sample from it."""

import torch
from torch import Tensor, nn

from lungforge.models.sampling import IdentityNoise, to_hu
from lungforge.models.spade import one_hot
from toy_generator.spec import ToyConfig


class ToyNetwork(nn.Module):
    """Maps [N, classes, H, W] and noise [N, 1, H, W] to images [N, 1, H, W]."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.Parameter(torch.zeros(config.classes, config.levels))

    def forward(self, maps: Tensor, noise: Tensor) -> Tensor:
        return torch.einsum("nchw,c->nhw", maps, self.levels.mean(1))[:, None] + 0.02 * noise


class ToySampler:
    """A ``SliceSampler``."""

    sampler, steps, guidance = "toy", 1, 1.0

    def __init__(self, network: ToyNetwork) -> None:
        self.network = network

    @torch.inference_mode()
    def sample(self, labels, identities, places=None):
        config, device = self.network.config, self.network.levels.device
        maps = one_hot(torch.from_numpy(labels).to(device), config.classes)
        noise = IdentityNoise(identities, (1, config.image_size, config.image_size), device)
        return to_hu(self.network(maps, noise()))

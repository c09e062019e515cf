"""A network with its conditioning, as the function of image and time that the samplers call."""

import torch
from torch import Tensor

from lungforge.models.sdm.diffusion import Denoiser
from lungforge.models.sdm.unet import Conditioning, SemanticUNet


def null_map(model: SemanticUNet) -> Tensor:
    """The map that says nothing, zeros [1, classes, H, W]: its conditioning serves every batch of a job."""
    config = model.config
    weight = next(model.parameters())
    size = config.image_size
    return torch.zeros(1, config.classes, size, size, dtype=weight.dtype, device=weight.device)


def guided_denoiser(
    model: SemanticUNet, conditioning: Conditioning, null: Conditioning | None = None, guidance: float = 1.0
) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

    The noise is ``null + guidance * (conditional - null)``; the variance is the conditional pass's. The
    encoder, which never sees the map, runs once for both passes. A guidance of 1 is the conditional model.

    Args:
        model: The network.
        conditioning: Of the images' maps.
        null: Conditioning of ``null_map``; computed here if needed and not given.
        guidance: The scale.
    """
    if guidance == 1:
        return lambda x, timesteps: model(x, timesteps, conditioning)
    nothing = model.condition(null_map(model)) if null is None else null
    channels = model.config.image_channels

    def denoise(x: Tensor, timesteps: Tensor) -> Tensor:
        features = model.encode(x, timesteps)
        output = model.decode(features, conditioning)
        noise, without = output[:, :channels], model.decode(features, nothing)[:, :channels]
        return torch.cat([without + guidance * (noise - without), output[:, channels:]], dim=1)

    return denoise

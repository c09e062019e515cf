"""Weights of a folded generator, built into one."""

from collections.abc import Mapping

from torch import Tensor

from lungforge.errors import ContentError
from lungforge.models.checkpoint import build_network, require_fields
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator


def build(config: GauGANConfig, weights: Mapping[str, Tensor]) -> Generator:
    """The generator of a configuration with the given weights, in evaluation mode.

    Raises:
        InputError: The weights are of another generator; the message says how it differs.
    """
    check_weights(weights, config)
    return build_network(lambda: Generator(config, spectral=False), weights)


def check_weights(weights: Mapping[str, Tensor], config: GauGANConfig) -> None:
    """Compare the weights with what the configuration asks for.

    Raises:
        InputError: They differ: names the field and both values.
    """
    if any(".parametrizations." in key for key in weights):
        raise ContentError("the weights are of a generator in training; fold it and give the weights of that")
    try:
        blocks = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
        start = weights["start.weight"]
        read = {
            "classes": weights["blocks.0.modulation_0.mlp_shared.0.weight"].shape[1],
            "image_channels": weights["to_image.weight"].shape[0],
            "latent_channels": start.shape[1] if start.ndim == 2 else 0,
            "widths": tuple(weights[f"blocks.{block}.conv_1.weight"].shape[0] for block in range(blocks)),
        }
    except (KeyError, IndexError, ValueError) as error:
        raise ContentError(f"the weights are not of a GauGAN generator ({error})") from None
    require_fields(config, read)

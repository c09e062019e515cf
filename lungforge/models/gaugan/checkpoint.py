"""A folded generator as bytes and JSON: safetensors with a configuration."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lungforge.errors import InputError
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator

#: What the JSON document says it describes.
MODEL_NAME = "gaugan"


def to_document(config: GauGANConfig) -> dict[str, Any]:
    """The JSON document that stands beside the weights."""
    return {"model": MODEL_NAME, "network": config.to_document()}


def from_document(document: Mapping[str, Any]) -> GauGANConfig:
    """The configuration in a document that ``to_document`` made.

    Raises:
        InputError: It describes another kind of model, or no possible network.
    """
    if document.get("model") != MODEL_NAME or not isinstance(document.get("network"), dict):
        raise InputError(
            f"the document describes the model {document.get('model')!r}; expected {MODEL_NAME!r}"
        )
    return GauGANConfig.from_document(document["network"])


def from_safetensors(
    data: bytes, document: Mapping[str, Any], *, classes: int | None = None, image_channels: int | None = None
) -> Generator:
    """Build the generator that a document describes and give it the weights.

    Args:
        data: Bytes of the safetensors file.
        document: The JSON document beside it.
        classes: Class count of the maps that it will be given; checked.
        image_channels: Channel count of the images that it is to draw; checked.

    Returns:
        The folded generator, in evaluation mode, on the CPU.

    Raises:
        InputError: The bytes are no safetensors, or the weights do not fit the document or the data.
    """
    config = from_document(document)
    for name, wanted in (("classes", classes), ("image_channels", image_channels)):
        if wanted is not None and wanted != getattr(config, name):
            raise InputError(
                f"the generator has {name} {getattr(config, name)}, the data has {wanted}; choose others"
            )
    try:
        weights = load(data)
    except SafetensorError as error:
        raise InputError(
            f"the weights are not a sound safetensors file ({error}); make or fetch them again"
        ) from error
    return build(config, weights)


def build(config: GauGANConfig, weights: Mapping[str, Tensor]) -> Generator:
    """The generator of a configuration with the given weights, in evaluation mode.

    Raises:
        InputError: The weights are of another generator; the message says how it differs.
    """
    with torch.device("meta"):
        generator = Generator(config, spectral=False)
    wanted = generator.state_dict()
    check_weights(weights, config, wanted)
    # A moving average is all float32, counts of batches included.
    generator.load_state_dict(
        {key: value.to(wanted[key].dtype) for key, value in weights.items()}, assign=True
    )
    return generator.to(memory_format=torch.channels_last).eval()


def check_weights(weights: Mapping[str, Tensor], config: GauGANConfig, wanted: Mapping[str, Tensor]) -> None:
    """Hold the weights against what the configuration asks for.

    Args:
        weights: The state dict.
        config: The configuration.
        wanted: The state dict of a generator of this configuration; only names and shapes count.

    Raises:
        InputError: They differ: names the field, both values, and what would do.
    """
    if any(".parametrizations." in key for key in weights):
        raise InputError("the weights are of a generator in training; fold it and give the weights of that")
    try:
        found = {
            "classes": weights["blocks.0.modulation_0.mlp_shared.0.weight"].shape[1],
            "image_channels": weights["to_image.weight"].shape[0],
            "latent_channels": weights["start.weight"].shape[1] if weights["start.weight"].ndim == 2 else 0,
            "widths": tuple(
                weights[f"blocks.{block}.conv_1.weight"].shape[0]
                for block in range(
                    1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))
                )
            ),
        }
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"the weights are not of a GauGAN generator ({error})") from None
    for name, value in found.items():
        if value != getattr(config, name):
            raise InputError(
                f"the weights have {name} {value}, the configuration says {getattr(config, name)}; "
                "use the configuration that was written beside them"
            )
    for key in sorted(set(wanted) ^ set(weights)):
        raise InputError(
            f"the weights {'lack' if key in wanted else 'have an unknown'} {key}; use its own configuration"
        )
    for key, value in wanted.items():
        if weights[key].shape != value.shape:
            raise InputError(
                f"{key} has the shape {tuple(weights[key].shape)}, the configuration asks for "
                f"{tuple(value.shape)}; use the configuration that was written beside the weights"
            )

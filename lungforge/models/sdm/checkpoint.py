"""Networks as bytes and JSON: safetensors with a configuration, and the released state dicts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lungforge.errors import InputError
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.unet import SemanticUNet

#: What the JSON document says it describes.
MODEL_NAME = "semantic_unet"


def to_document(config: UNetConfig) -> dict[str, Any]:
    """The JSON document that stands beside the weights."""
    return {"model": MODEL_NAME, "network": config.to_document()}


def from_document(document: Mapping[str, Any]) -> UNetConfig:
    """The configuration in a document that ``to_document`` made.

    Raises:
        InputError: It describes another kind of model, or no possible network.
    """
    if document.get("model") != MODEL_NAME or not isinstance(document.get("network"), dict):
        raise InputError(
            f"the document describes the model {document.get('model')!r}; expected {MODEL_NAME!r}"
        )
    return UNetConfig.from_document(document["network"])


def from_safetensors(
    data: bytes, document: Mapping[str, Any], *, classes: int | None = None, image_channels: int | None = None
) -> SemanticUNet:
    """Build the network that a document describes and give it the weights.

    Args:
        data: Bytes of the safetensors file.
        document: The JSON document beside it.
        classes: Class count of the maps that it will be given; checked.
        image_channels: Channel count of the images that it will be given; checked.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        InputError: The bytes are no safetensors, or the weights do not fit the document or the data.
    """
    config = from_document(document)
    for name, wanted in (("classes", classes), ("image_channels", image_channels)):
        if wanted is not None and wanted != getattr(config, name):
            raise InputError(
                f"the network has {name} {getattr(config, name)}, the data has {wanted}; use a network of it"
            )
    try:
        weights = load(data)
    except SafetensorError as error:
        raise InputError(
            f"the weights are not a sound safetensors file ({error}); make or fetch them again"
        ) from error
    return build(config, weights)


def build(config: UNetConfig, weights: Mapping[str, Tensor]) -> SemanticUNet:
    """The network of a configuration with the given weights, in evaluation mode.

    Raises:
        InputError: The weights are of another network; the message says how it differs.
    """
    check_weights(weights, config)
    with torch.device("meta"):
        model = SemanticUNet(config)
    model.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return model.to(memory_format=torch.channels_last).eval()


def check_weights(weights: Mapping[str, Tensor], config: UNetConfig) -> None:
    """Hold the weights against what the configuration asks for.

    Raises:
        InputError: They differ: names the field, both values, and what to pass.
    """
    found = weights_config(weights, image_size=config.image_size, head_channels=config.head_channels)
    names = (
        "classes",
        "image_channels",
        "base_channels",
        "channel_multipliers",
        "residual_blocks",
        "attention_sizes",
    )
    for name in names:
        wanted, has = getattr(config, name), getattr(found, name)
        if name == "attention_sizes":
            wanted, has = tuple(sorted(wanted)), tuple(sorted(has))
        if wanted != has:
            raise InputError(
                f"the weights have {name} {has}, the configuration says {wanted}; pass {name} {has}"
            )
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in SemanticUNet(config).state_dict().items()}
    for key in sorted(set(shapes) ^ set(weights)):
        raise InputError(
            f"the weights {'lack' if key in shapes else 'have an unknown'} {key}; they are of another network"
        )
    for key, shape in shapes.items():
        if weights[key].shape != shape:
            raise InputError(
                f"{key} has the shape {tuple(weights[key].shape)}, the configuration {tuple(shape)}; "
                "they are of another network"
            )


def weights_config(weights: Mapping[str, Tensor], *, image_size: int, head_channels: int) -> UNetConfig:
    """Read the configuration off the shapes of a state dict under the released names.

    Args:
        weights: The state dict.
        image_size: Side of the images, which no shape tells.
        head_channels: Channels of an attention head, which no shape tells either.

    Raises:
        InputError: It is not the state dict of such a network.
    """
    try:
        first = weights["input_blocks.0.0.weight"]
        base = weights["time_embed.0.weight"].shape[1]
        classes = weights["middle_block.0.in_norm.mlp_shared.0.weight"].shape[1]
    except KeyError as error:
        raise InputError(f"the weights lack {error}; they are not of a semantic diffusion network") from None
    stages = 1 + max(int(match[1]) for key in weights if (match := re.match(r"input_blocks\.(\d+)\.", key)))
    # The decoder has as many stages as the encoder. The last stage of every level but the finest has one more
    # modulated block, second or third in its stage, which doubles the side: so these count the levels.
    ups = [
        int(match[1])
        for key in weights
        if (match := re.fullmatch(r"output_blocks\.(\d+)\.[12]\.in_layers\.1\.weight", key))
    ]
    levels = len(ups) + 1
    blocks = stages // levels - 1
    if stages != levels * (blocks + 1) or blocks < 1:
        raise InputError(
            f"the weights have {stages} encoder stages in {levels} levels; no such network is known"
        )
    widths, attention = [], []
    for level in range(levels):
        index = level * (blocks + 1) + 1
        try:
            width = weights[f"input_blocks.{index}.0.in_layers.2.weight"].shape[0]
        except KeyError as error:
            raise InputError(
                f"the weights lack {error}; they are not of a semantic diffusion network"
            ) from None
        widths.append(width)
        if f"input_blocks.{index}.1.qkv.weight" in weights:
            attention.append(image_size // 2**level)
    multipliers = tuple(width // base if width % base == 0 else width / base for width in widths)
    return UNetConfig(
        image_size=image_size,
        image_channels=first.shape[1],
        classes=classes,
        base_channels=base,
        channel_multipliers=multipliers,
        residual_blocks=blocks,
        attention_sizes=tuple(attention),
        head_channels=head_channels,
    )


def read_released(path: Path) -> dict[str, Tensor]:
    """The state dict in a PyTorch file, read without running any code that it may hold.

    Raises:
        InputError: It is no such file, or holds more than tensors.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; give the path of a .pt state dict") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as a state dict of tensors only ({reason})") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} holds no state dict (names to tensors); export the weights alone")
    return weights

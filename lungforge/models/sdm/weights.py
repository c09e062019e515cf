"""Weights of a semantic diffusion network: built into one, and what their shapes tell."""

import re
from collections.abc import Mapping

from torch import Tensor

from lungforge.errors import ContentError
from lungforge.models.checkpoint import build_network, require_fields
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.unet import SemanticUNet

#: A weight that every such network has.
MARKER = "input_blocks.0.0.weight"
#: Fields that the shapes of the weights tell; not the order of the attention sizes.
_TOLD = ("classes", "image_channels", "base_channels", "channel_multipliers", "residual_blocks", "place")


def build(config: UNetConfig, weights: Mapping[str, Tensor]) -> SemanticUNet:
    """The network of a configuration with the given weights, in evaluation mode.

    Raises:
        InputError: The weights are of another network; the message says how it differs.
    """
    check_weights(weights, config)
    return build_network(lambda: SemanticUNet(config), weights)


def check_weights(weights: Mapping[str, Tensor], config: UNetConfig) -> None:
    """Compare the weights with what the configuration asks for.

    Raises:
        InputError: They differ: names the field and both values.
    """
    read = weights_config(weights, image_size=config.image_size, head_channels=config.head_channels)
    require_fields(config, {name: getattr(read, name) for name in _TOLD})
    if set(read.attention_sizes) != set(config.attention_sizes):
        require_fields(config, {"attention_sizes": read.attention_sizes})


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
        image_channels = weights[MARKER].shape[1]
        base = weights["time_embed.0.weight"].shape[1]
        classes = weights["middle_block.0.in_norm.mlp_shared.0.weight"].shape[1]
    except KeyError as error:
        raise ContentError(
            f"the weights lack {error}; they are not of a semantic diffusion network"
        ) from None
    except IndexError:
        raise ContentError(
            "the weights have too few sides; they are not of a semantic diffusion network"
        ) from None
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
        raise ContentError(
            f"the weights have {stages} encoder stages in {levels} levels; no such network is known"
        )
    widths, attention = [], []
    for level in range(levels):
        index = level * (blocks + 1) + 1
        try:
            width = weights[f"input_blocks.{index}.0.in_layers.2.weight"].shape[0]
        except KeyError as error:
            raise ContentError(
                f"the weights lack {error}; they are not of a semantic diffusion network"
            ) from None
        widths.append(width)
        if f"input_blocks.{index}.1.qkv.weight" in weights:
            attention.append(image_size // 2**level)
    if not base:
        raise ContentError("the weights have the width 0; they are not of a semantic diffusion network")
    multipliers = tuple(width // base if width % base == 0 else width / base for width in widths)
    return UNetConfig(
        image_size=image_size,
        image_channels=image_channels,
        classes=classes,
        base_channels=base,
        channel_multipliers=multipliers,
        residual_blocks=blocks,
        attention_sizes=tuple(attention),
        head_channels=head_channels,
        place="place_embed.0.weight" in weights,
    )

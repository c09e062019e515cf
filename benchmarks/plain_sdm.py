"""The semantic U-Net as the paper describes it, in the plainest PyTorch: the oracle of speed and of result.

It takes the weights under their released names and shares no code with ``lungforge``: every normalisation
convolves the map anew, γ and β are two convolutions, attention is written out, memory is as PyTorch's
default lays it out.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


def plain_unet(weights: Weights, head_channels: int, x: Tensor, timesteps: Tensor, maps: Tensor) -> Tensor:
    """Network output [N, 2C, H, W] for images [N, C, H, W], timesteps [N] and one-hot maps [N, K, H, W]."""
    base = weights["time_embed.0.weight"].shape[1]
    half = base // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    angles = timesteps.float()[:, None] * frequencies.to(x.device)
    time = torch.cat([angles.cos(), angles.sin()], dim=1).to(x.dtype)
    time = _linear(weights, "time_embed.2", F.silu(_linear(weights, "time_embed.0", time)))

    h, skips = _conv(weights, "input_blocks.0.0", x), []
    skips.append(h)
    index = 1
    while f"input_blocks.{index}.0.in_layers.0.weight" in weights:
        name = f"input_blocks.{index}"
        # A block that halves the side is the last of its level: alone in its stage, and of unchanged width.
        h = _residual(weights, f"{name}.0", h, time, down=_is_down(weights, index))
        if f"{name}.1.qkv.weight" in weights:
            h = _attention(weights, f"{name}.1", head_channels, h)
        skips.append(h)
        index += 1

    h = _spade_residual(weights, "middle_block.0", h, time, maps)
    h = _attention(weights, "middle_block.1", head_channels, h)
    h = _spade_residual(weights, "middle_block.2", h, time, maps)

    for index in range(len(skips)):
        name = f"output_blocks.{index}"
        h = _spade_residual(weights, f"{name}.0", torch.cat([h, skips.pop()], dim=1), time, maps)
        last = 1
        if f"{name}.1.qkv.weight" in weights:
            h = _attention(weights, f"{name}.1", head_channels, h)
            last = 2
        if f"{name}.{last}.in_layers.1.weight" in weights:
            h = _spade_residual(weights, f"{name}.{last}", h, time, maps, up=True)
    h = F.silu(F.group_norm(h, 32, weights["out.0.weight"], weights["out.0.bias"]))
    return _conv(weights, "out.2", h)


def plain_guided(
    weights: Weights, head_channels: int, x: Tensor, timesteps: Tensor, maps: Tensor, guidance: float
) -> Tensor:
    """Classifier-free guidance by two full passes."""
    output = plain_unet(weights, head_channels, x, timesteps, maps)
    without = plain_unet(weights, head_channels, x, timesteps, torch.zeros_like(maps))
    channels = x.shape[1]
    noise = without[:, :channels] + guidance * (output[:, :channels] - without[:, :channels])
    return torch.cat([noise, output[:, channels:]], dim=1)


def _is_down(weights: Weights, index: int) -> bool:
    """Whether an encoder stage halves the side: the decoder has an upsampling block in the mirrored place."""
    stages = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("output_blocks."))
    levels = 1 + len(
        {
            name.rsplit(".", 3)[0]
            for name in weights
            if name.startswith("output_blocks.")
            and name.endswith(".in_layers.1.weight")
            and ".0.in_" not in name
        }
    )
    return index % (stages // levels) == 0


def _residual(weights: Weights, name: str, x: Tensor, time: Tensor, *, down: bool) -> Tensor:
    h = F.silu(
        F.group_norm(x, 32, weights[f"{name}.in_layers.0.weight"], weights[f"{name}.in_layers.0.bias"])
    )
    if down:
        h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
    h = _conv(weights, f"{name}.in_layers.2", h)
    scale, shift = _linear(weights, f"{name}.emb_layers.1", F.silu(time))[:, :, None, None].chunk(2, dim=1)
    h = F.group_norm(h, 32, weights[f"{name}.out_layers.0.weight"], weights[f"{name}.out_layers.0.bias"])
    h = F.silu(h * (1 + scale) + shift)
    return _skip(weights, name, x) + _conv(weights, f"{name}.out_layers.3", h)


def _spade_residual(
    weights: Weights, name: str, x: Tensor, time: Tensor, maps: Tensor, *, up: bool = False
) -> Tensor:
    h = F.silu(_spade(weights, f"{name}.in_norm", x, maps))
    if up:
        h, x = (
            F.interpolate(h, scale_factor=2, mode="nearest"),
            F.interpolate(x, scale_factor=2, mode="nearest"),
        )
    h = _conv(weights, f"{name}.in_layers.1", h)
    scale, shift = _linear(weights, f"{name}.emb_layers.1", F.silu(time))[:, :, None, None].chunk(2, dim=1)
    h = F.silu(_spade(weights, f"{name}.out_norm", h, maps) * (1 + scale) + shift)
    return _skip(weights, name, x) + _conv(weights, f"{name}.out_layers.2", h)


def _spade(weights: Weights, name: str, x: Tensor, maps: Tensor) -> Tensor:
    maps = F.interpolate(maps, size=x.shape[2:], mode="nearest")
    hidden = F.relu(_conv(weights, f"{name}.mlp_shared.0", maps))
    gamma, beta = _conv(weights, f"{name}.mlp_gamma", hidden), _conv(weights, f"{name}.mlp_beta", hidden)
    return F.group_norm(x, 32) * (1 + gamma) + beta


def _attention(weights: Weights, name: str, head_channels: int, x: Tensor) -> Tensor:
    count, width, height, columns = x.shape
    tokens = x.reshape(count, width, -1)
    h = F.group_norm(tokens, 32, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
    qkv = F.conv1d(h, weights[f"{name}.qkv.weight"], weights[f"{name}.qkv.bias"])
    query, key, value = qkv.reshape(-1, 3 * head_channels, qkv.shape[-1]).split(head_channels, dim=1)
    scale = head_channels**-0.25
    scores = torch.einsum("bct,bcs->bts", query * scale, key * scale).float().softmax(dim=-1).to(x.dtype)
    h = torch.einsum("bts,bcs->bct", scores, value).reshape(tokens.shape)
    h = F.conv1d(h, weights[f"{name}.proj_out.weight"], weights[f"{name}.proj_out.bias"])
    return (tokens + h).reshape(count, width, height, columns)


def _skip(weights: Weights, name: str, x: Tensor) -> Tensor:
    return _conv(weights, f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in weights else x


def _conv(weights: Weights, name: str, x: Tensor) -> Tensor:
    weight = weights[f"{name}.weight"]
    return F.conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

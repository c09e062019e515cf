"""The blocks of the semantic U-Net: residual, spatially modulated residual, attention.

The submodules carry the names of the released state dicts (``in_layers.0``, ``mlp_gamma``, ...), so that
those load as they are. Features are [N, C, H, W], best in channels-last memory.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.sdm.config import GROUPS
from lungforge.spade import Modulation, SpadeModulation


def timestep_embedding(timesteps: Tensor, width: int, max_period: float = 10_000) -> Tensor:
    """Sinusoids [cos | sin] of timesteps [N]: float32 [N, width], after Vaswani et al., arXiv 1706.03762."""
    half = width // 2
    order = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    # Multiplied before it is divided: at late timesteps the rounding of the frequencies shows in the images.
    angles = timesteps.float()[:, None] * torch.exp(-math.log(max_period) * order / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def start_at_zero(layer: nn.Module) -> None:
    """Begin training with a layer that contributes nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ResidualBlock(nn.Module):
    """Normalise, convolve, take in the time by scale and shift, convolve; it never sees the map."""

    def __init__(
        self, width: int, out_width: int, time_width: int, dropout: float, *, down: bool = False
    ) -> None:
        super().__init__()
        self.down = down
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, out_width, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 2 * out_width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out_width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_width, out_width, 3, padding=1),
        )
        self.skip_connection = _skip(width, out_width)
        start_at_zero(self.out_layers[3])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Features [N, width, H, W], time [N, time_width] to [N, out_width, H, W]; half the side if down."""
        norm, _, convolution = self.in_layers
        h = _activate(norm(x))
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = convolution(h)
        scale, shift = self.emb_layers(time)[:, :, None, None].chunk(2, dim=1)
        norm, _, dropout, convolution = self.out_layers
        h = _activate(torch.addcmul(shift, norm(h), 1 + scale))
        return convolution(dropout(h)).add_(_pointwise(self.skip_connection, x))


class SpadeBlock(nn.Module):
    """A residual block whose two normalisations are modulated by the map."""

    def __init__(
        self, width: int, out_width: int, classes: int, time_width: int, dropout: float, *, up: bool = False
    ):
        super().__init__()
        self.up = up
        self.in_norm = SpadeModulation(width, classes)
        self.in_layers = nn.Sequential(nn.SiLU(), nn.Conv2d(width, out_width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 2 * out_width))
        self.out_norm = SpadeModulation(out_width, classes)
        self.out_layers = nn.Sequential(
            nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(out_width, out_width, 3, padding=1)
        )
        self.skip_connection = _skip(width, out_width)
        start_at_zero(self.out_layers[2])

    def forward(self, x: Tensor, time: Tensor, before: Modulation, after: Modulation) -> Tensor:
        """Features [N, width, H, W] to [N, out_width, H, W], twice the side if up."""
        before = before.whole()
        h = _activate(torch.addcmul(before.shift, F.group_norm(x, GROUPS), before.scale))
        h = _upsampled_convolution(h, self.in_layers[1]) if self.up else self.in_layers[1](h)
        scale, shift = self.emb_layers(time)[:, :, None, None].chunk(2, dim=1)
        after = after.whole()
        h = torch.addcmul(after.shift, F.group_norm(h, GROUPS), after.scale)
        h = _activate(torch.addcmul(shift, h, 1 + scale))
        h = self.out_layers[2](self.out_layers[1](h))
        if not self.up:
            return h.add_(_pointwise(self.skip_connection, x))
        return h.add_(F.interpolate(x, scale_factor=2, mode="nearest"))


class Attention(nn.Module):
    """Self-attention over the pixels of a feature map, with a residual."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.heads = width // head_width
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)
        start_at_zero(self.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [N, pixels, C]
        count, pixels, width = tokens.shape
        qkv = F.linear(tokens, self.qkv.weight[:, :, 0], self.qkv.bias)
        # The heads are split before query, key and value.
        qkv = qkv.view(count, pixels, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        tokens = (
            F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(count, pixels, width)
        )
        tokens = F.linear(tokens, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return x + tokens.transpose(1, 2).reshape(x.shape)


def _skip(width: int, out_width: int) -> nn.Module:
    return nn.Identity() if width == out_width else nn.Conv2d(width, out_width, 1)


def _activate(h: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs what was there."""
    return F.silu(h, inplace=not torch.is_grad_enabled())


def _pointwise(convolution: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution as the matrix product that it is, or the identity."""
    if isinstance(convolution, nn.Conv2d):
        return F.linear(x.permute(0, 2, 3, 1), convolution.weight[:, :, 0, 0], convolution.bias).permute(
            0, 3, 1, 2
        )
    return x


def _upsampled_convolution(x: Tensor, convolution: nn.Module) -> Tensor:
    """``convolution`` of ``x`` enlarged twofold by nearest neighbour, for 4/9 of the work.

    Of the nine taps at an output pixel several fall on the same input pixel: added up, they are a 2x2
    convolution for each of the four places that an output pixel can have in an input pixel.
    """
    assert isinstance(convolution, nn.Conv2d)
    weight, height, width = convolution.weight, x.shape[2], x.shape[3]
    rows = [torch.stack([weight[:, :, 0], weight[:, :, 1] + weight[:, :, 2]], dim=2)]
    rows.append(torch.stack([weight[:, :, 0] + weight[:, :, 1], weight[:, :, 2]], dim=2))
    places = []
    for part in rows:
        places.append(torch.stack([part[..., 0], part[..., 1] + part[..., 2]], dim=3))
        places.append(torch.stack([part[..., 0] + part[..., 1], part[..., 2]], dim=3))
    assert convolution.bias is not None
    h = F.conv2d(x, torch.cat(places), convolution.bias.repeat(4), padding=1)
    # Window (row, column) begins one pixel before input pixel (row, column).
    corners = h.permute(0, 2, 3, 1).unflatten(3, (4, -1))
    top = [corners[:, :height, :width, 0], corners[:, :height, 1:, 1]]
    bottom = [corners[:, 1:, :width, 2], corners[:, 1:, 1:, 3]]
    both = torch.stack([torch.stack(top, dim=3), torch.stack(bottom, dim=3)], dim=2)
    return both.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)

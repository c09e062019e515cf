"""The blocks of the semantic U-Net: residual, spatially modulated residual, attention.

The submodules carry the names of the released state dicts (``in_layers.0``, ``mlp_gamma``, ...), so that
those load as they are. Features are [N, C, H, W], best in channels-last memory.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.models.device_choices import fuses_norms
from lungforge.models.sdm.config import GROUPS
from lungforge.models.sdm.fused_norm import ScaleAndShift, fused_norm
from lungforge.models.sdm.normalisation import group_norm, modulate
from lungforge.models.spade import Modulation, SpadeModulation, pointwise


def timestep_embedding(timesteps: Tensor, width: int, max_period: float = 10_000) -> Tensor:
    """Sinusoids [cos | sin] of timesteps [N]: float32 [N, width], after Vaswani et al., arXiv 1706.03762."""
    half = width // 2
    order = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    # Multiplied before it is divided: at late timesteps the rounding of the frequencies shows in the images.
    angles = timesteps.float()[:, None] * torch.exp(-math.log(max_period) * order / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def zero_init(layer: nn.Module) -> None:
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
        zero_init(self.out_layers[3])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Features [N, width, H, W], time [N, time_width] to [N, out_width, H, W]; half the side if down."""
        norm, _, convolution = self.in_layers
        h = norm_activate(x, norm)
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = convolution(h)
        scale, shift = self.emb_layers(time)[:, :, None, None].chunk(2, dim=1)
        norm, _, dropout, convolution = self.out_layers
        h = norm_activate(h, norm, (1 + scale, shift))
        return _added(convolution(dropout(h)), _shortcut(self.skip_connection, x))


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
        zero_init(self.out_layers[2])

    def forward(self, x: Tensor, time: Tensor, before: Modulation, after: Modulation) -> Tensor:
        """Features [N, width, H, W] to [N, out_width, H, W], twice the side if up."""
        before = before.whole()
        h = norm_activate(x, None, (before.scale, before.shift))
        h = _upsampled_convolution(h, self.in_layers[1]) if self.up else self.in_layers[1](h)
        scale, shift = self.emb_layers(time)[:, :, None, None].chunk(2, dim=1)
        after = after.whole()
        h = norm_activate(h, None, (after.scale, after.shift), (1 + scale, shift))
        h = self.out_layers[2](self.out_layers[1](h))
        if not self.up:
            return _added(h, _shortcut(self.skip_connection, x))
        # Each pixel of x is added to four; autocast would enlarge it in float32.
        four = _added(h.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)), x[:, :, :, None, :, None])
        return four.flatten(4, 5).flatten(2, 3)


class Attention(nn.Module):
    """Self-attention over the pixels of a feature map, with a residual."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.heads = width // head_width
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)
        zero_init(self.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to the same shape."""
        count, width, height, columns = x.shape
        normalised = (
            fused_norm(x, self.norm, activate=False) if fuses_norms(x.device) else group_norm(x, self.norm)
        )
        qkv = pointwise(normalised, self.qkv.weight[:, :, 0], self.qkv.bias)
        # The heads are split before query, key and value.
        qkv = qkv.permute(0, 2, 3, 1).view(count, height * columns, self.heads, 3, width // self.heads)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        tokens = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        h = tokens.reshape(count, height, columns, width).permute(0, 3, 1, 2)
        return _added(pointwise(h, self.proj_out.weight[:, :, 0], self.proj_out.bias), x)


def _skip(width: int, out_width: int) -> nn.Module:
    return nn.Identity() if width == out_width else nn.Conv2d(width, out_width, 1)


def _shortcut(convolution: nn.Module, x: Tensor) -> Tensor:
    if isinstance(convolution, nn.Conv2d):
        return pointwise(x, convolution.weight.flatten(1), convolution.bias)
    return x


def norm_activate(x: Tensor, layer: nn.Module | None, *modulations: ScaleAndShift) -> Tensor:
    """Normalise features, modulate them in order, and activate them by SiLU; see ``fused_norm``."""
    if fuses_norms(x.device):
        return fused_norm(x, layer, modulations)
    h = group_norm(x, layer)
    for scale, shift in modulations:
        h = modulate(h, scale, shift)
    # In place where no gradient needs what was there.
    return F.silu(h, inplace=not torch.is_grad_enabled())


def _added(h: Tensor, other: Tensor) -> Tensor:
    """The sum, in the place of ``h`` on a CPU; a compiler traces the plain one, which costs it nothing."""
    return h + other if fuses_norms(h.device) else h.add_(other)


def _upsampled_convolution(x: Tensor, convolution: nn.Module) -> Tensor:
    """``convolution`` of ``x`` enlarged twofold by nearest neighbour, for 4/9 of the work.

    Enlarging is a transposed convolution with a 2x2 kernel of ones; with the 3x3 kernel after it, it is one
    transposed convolution with a 4x4 kernel, four of whose taps meet at an output pixel.
    """
    assert isinstance(convolution, nn.Conv2d)
    kernel = F.pad(convolution.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    kernel = kernel[:, :, 1:] + kernel[:, :, :-1]
    kernel = kernel[..., 1:] + kernel[..., :-1]
    return F.conv_transpose2d(x, kernel, convolution.bias, stride=2, padding=1)

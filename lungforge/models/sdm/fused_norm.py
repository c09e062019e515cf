"""Group normalisation, modulation and SiLU as one function that keeps only what it was given.

Autocast runs a group normalisation in float32, and all that follows inherits it, so that most of what a
training step keeps would be float32. This takes and gives bfloat16, with statistics and arithmetic in
float32, and computes anew in its gradient what it did not keep. It groups channels-last features in place:
PyTorch's group normalisation would turn them to another memory layout and back. In a compiled block, its
arithmetic becomes one kernel.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lungforge.models.sdm.config import GROUPS
from lungforge.models.sdm.normalisation import EPSILON

#: A scale and a shift, each [N, C, H, W] or broadcast to it.
ScaleAndShift = tuple[Tensor, Tensor]


def fused_norm(
    x: Tensor,
    layer: nn.Module | None = None,
    modulations: Sequence[ScaleAndShift] = (),
    *,
    activate: bool = True,
) -> Tensor:
    """Normalise features in ``GROUPS`` groups, modulate them, and activate them by SiLU.

    Args:
        x: Features [N, C, H, W].
        layer: An ``nn.GroupNorm`` whose weight and bias follow; None for neither.
        modulations: Scales and shifts that follow, in order.
        activate: Whether SiLU follows.

    Returns:
        [N, C, H, W] in the type of ``x``.
    """
    pairs = list(modulations)
    if layer is not None:
        weight, bias = (layer.get_parameter(name).view(1, -1, 1, 1) for name in ("weight", "bias"))
        pairs.insert(0, (weight, bias))
    return _FusedNorm.apply(x, activate, *(value for pair in pairs for value in pair))


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised features in float32 at least, and 1 / σ of their groups, to be broadcast beside them."""
    values = _grouped(x.to(torch.promote_types(x.dtype, torch.float32)))
    variance, mean = torch.var_mean(values, (1, 2, 4), keepdim=True, correction=0)
    rstd = (variance + EPSILON).rsqrt()
    return (values - mean) * rstd, rstd


def _grouped(x: Tensor) -> Tensor:
    """Features [N, C, H, W] as [N, H, W, groups, channels of a group]: no copy of channels-last ones."""
    return x.permute(0, 2, 3, 1).unflatten(3, (GROUPS, -1))


def _ungrouped(x: Tensor) -> Tensor:
    return x.flatten(3).permute(0, 3, 1, 2)


class _FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activate: bool, *modulations: Tensor) -> Tensor:
        ctx.save_for_backward(x, *modulations)
        ctx.activate = activate
        h = _ungrouped(_normalised(x)[0])
        for scale, shift in zip(modulations[::2], modulations[1::2], strict=True):
            h = h * scale + shift
        return (h * h.sigmoid() if activate else h).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *modulations = ctx.saved_tensors
        normalised, rstd = _normalised(x)
        steps = [_ungrouped(normalised)]
        for scale, shift in zip(modulations[::2], modulations[1::2], strict=True):
            steps.append(steps[-1] * scale + shift)
        upstream = gradients[0].to(normalised.dtype)
        if ctx.activate:
            gate = steps[-1].sigmoid()
            upstream = upstream * gate * (1 + steps[-1] * (1 - gate))
        found: list[Tensor | None] = []
        for index in reversed(range(0, len(modulations), 2)):
            scale, shift = modulations[index : index + 2]
            of_scale = (upstream * steps[index // 2]).sum_to_size(scale.shape).to(scale.dtype)
            found[:0] = of_scale, upstream.sum_to_size(shift.shape).to(shift.dtype)
            upstream = upstream * scale
        # The derivative of (x - mean) * rstd, with mean and rstd of the group.
        upstream = _grouped(upstream)
        mean = upstream.mean((1, 2, 4), keepdim=True)
        along = (upstream * normalised).mean((1, 2, 4), keepdim=True)
        return _ungrouped((upstream - mean - normalised * along) * rstd).to(x.dtype), None, *found

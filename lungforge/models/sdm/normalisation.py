"""Group normalisation and modulation, with gradients in few passes over memory.

PyTorch's gradient of group normalisation is slow in channels-last memory on a CPU, and that of ``addcmul``
writes more than is needed. Values are PyTorch's own; gradients are the same but for rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.models.sdm.config import GROUPS

#: Added to the variance: the default of ``nn.GroupNorm``, which the released networks have.
EPSILON = 1e-5


def group_norm(x: Tensor, layer: nn.Module | None = None) -> Tensor:
    """Normalise features [N, C, H, W] in ``GROUPS`` groups.

    Args:
        x: The features.
        layer: An ``nn.GroupNorm`` whose weight and bias follow; None for neither.
    """
    weight, bias = None, None
    if layer is not None:
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    if x.is_cpu and torch.is_grad_enabled():
        return _GroupNorm.apply(x, weight, bias)
    return F.group_norm(x, GROUPS, weight, bias, EPSILON)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x * scale + shift``, like ``x`` [N, C, H, W]; in the place of ``x`` where no gradient is wanted."""
    if torch.is_grad_enabled():
        return _Modulate.apply(x, scale, shift)
    return torch.addcmul(shift, x, scale, out=x)


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return torch.addcmul(shift, x, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        (upstream,) = gradients
        return upstream * scale, (upstream * x).sum_to_size(scale.shape), upstream.sum_to_size(scale.shape)


class _GroupNorm(torch.autograd.Function):
    """The gradient of x is ``slope * x + gain * upstream + offset``, with one value each for every channel.

    That follows from the derivative of ``(x - mean) * rstd`` with mean and rstd of the group.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        count, width, height, columns = x.shape
        normalised, mean, rstd = torch.native_group_norm(
            x, weight, bias, count, width, height * columns, GROUPS, EPSILON
        )
        ctx.save_for_backward(x, weight, mean, rstd)
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, weight, mean, rstd = ctx.saved_tensors
        (upstream,) = gradients
        count, width, height, columns = x.shape
        if x.dtype == torch.bfloat16:
            # Sums of bfloat16 need care, which PyTorch takes; in this memory layout it is not slow.
            d_x, d_weight, d_bias = torch.ops.aten.native_group_norm_backward(
                upstream.contiguous(),
                x.contiguous(),
                mean,
                rstd,
                weight,
                count,
                width,
                height * columns,
                GROUPS,
                [True, weight is not None, weight is not None],
            )
            return d_x.contiguous(memory_format=torch.channels_last), d_weight, d_bias
        grouped = (count, GROUPS, -1)
        elements = width // GROUPS * height * columns
        mean, rstd = mean[..., None], rstd[..., None]
        total = upstream.sum((2, 3)).view(grouped)
        # What follows is [N, groups, channels of a group].
        moment = (upstream * x).sum((2, 3)).view(grouped) - total * mean
        d_weight = d_bias = None
        gain = rstd.expand_as(total)
        if weight is not None:
            d_weight, d_bias = (moment * rstd).sum(0).flatten(), total.sum(0).flatten()
            weight = weight.view(1, GROUPS, -1)
            gain, total, moment = gain * weight, total * weight, moment * weight
        slope = moment.sum(2, keepdim=True) * (-(rstd**3) / elements)
        offset = total.sum(2, keepdim=True) * (-rstd / elements) - slope * mean
        slope, offset, gain = (
            value.expand_as(total).reshape(count, width, 1, 1) for value in (slope, offset, gain)
        )
        return torch.addcmul(offset, x, slope).addcmul_(upstream, gain), d_weight, d_bias

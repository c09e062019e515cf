"""Hand-written gradients against finite differences and those of PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lungforge.models.sdm.config import GROUPS
from lungforge.models.sdm.normalisation import group_norm, modulate


def features(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("affine", [True, False])
def test_gradients_of_the_norm_agree_with_finite_differences(affine: bool) -> None:
    x = features(2, 2 * GROUPS, 2, 3).requires_grad_()
    layer = nn.GroupNorm(GROUPS, 2 * GROUPS, dtype=torch.float64)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)

    def function(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return group_norm(x, layer if affine else None)

    given = (x, layer.weight, layer.bias) if affine else (x,)
    assert torch.autograd.gradcheck(function, given, fast_mode=True)


@pytest.mark.parametrize("affine", [True, False])
def test_values_are_those_of_pytorch(affine: bool) -> None:
    x = features(3, 3 * GROUPS, 5, 4, dtype=torch.float32)
    layer = nn.GroupNorm(GROUPS, 3 * GROUPS)
    nn.init.normal_(layer.weight)
    expected = layer(x) if affine else F.group_norm(x, GROUPS)
    with torch.no_grad():
        assert torch.equal(group_norm(x, layer if affine else None), expected)
    assert torch.equal(group_norm(x.requires_grad_(), layer if affine else None), expected)


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 4, 1, 1), (1, 4, 3, 3)])
def test_modulation_broadcasts_in_its_gradients_as_well(shape: tuple[int, ...]) -> None:
    x, scale, shift = (features(*size).requires_grad_() for size in ((2, 4, 3, 3), shape, shape))
    assert torch.autograd.gradcheck(modulate, (x, scale, shift))
    assert torch.equal(modulate(x, scale, shift), torch.addcmul(shift, x, scale))
    with torch.no_grad():
        assert torch.equal(modulate(x.clone(), scale, shift), torch.addcmul(shift, x, scale))


@pytest.mark.parametrize("affine", [True, False])
def test_gradients_in_bfloat16_are_those_of_float32_but_for_rounding(affine: bool) -> None:
    layer = nn.GroupNorm(GROUPS, 2 * GROUPS)
    nn.init.normal_(layer.weight)
    # A mean well off zero: sums in bfloat16 would lose what varies around it.
    plain = (3 + features(2, 2 * GROUPS, 16, 16, dtype=torch.float32)).bfloat16()
    upstream = features(2, 2 * GROUPS, 16, 16, dtype=torch.float32).flip(3).bfloat16()
    gradients = []
    for dtype in (torch.bfloat16, torch.float32):
        x = plain.clone().to(dtype).requires_grad_()
        layer.zero_grad()
        group_norm(x, layer if affine else None).backward(upstream.to(dtype))
        parameters = [layer.weight.grad, layer.bias.grad] if affine else []
        gradients.append([x.grad, *parameters])
    for half, exact in zip(*gradients, strict=True):
        assert half is not None
        assert float((half.float() - exact).norm() / exact.norm()) < 2**-7
    assert gradients[0][0].is_contiguous(memory_format=torch.channels_last)

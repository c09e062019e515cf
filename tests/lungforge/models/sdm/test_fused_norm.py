"""The fused norm against the functions that it stands for, in value and gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lungforge.models.sdm.config import GROUPS
from lungforge.models.sdm.fused_norm import fused_norm

WIDTH = 2 * GROUPS


def features(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.contiguous(memory_format=torch.channels_last)


def inputs(kinds: str) -> tuple[Tensor, nn.GroupNorm | None, list[tuple[Tensor, Tensor]]]:
    """Features, a layer where there is an "l", and a modulation a pixel or a channel for each "p" or "c"."""
    layer = nn.GroupNorm(GROUPS, WIDTH, dtype=torch.float64) if "l" in kinds else None
    if layer is not None:
        layer.weight.data, layer.bias.data = (
            features(1, WIDTH, 1, 1, seed=8).flatten(),
            torch.ones(WIDTH).double(),
        )
    sides = {"p": 3, "c": 1}
    pairs = [
        (
            features(2, WIDTH, side, side, seed=2 * index + 1),
            features(2, WIDTH, side, side, seed=2 * index + 2),
        )
        for index, side in enumerate(sides[kind] for kind in kinds if kind in sides)
    ]
    return 3 + features(2, WIDTH, 3, 3), layer, pairs


@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("kinds", ["", "l", "lc", "p", "pc"])
def test_it_equals_what_it_stands_for_in_value_and_gradient(kinds: str, activate: bool) -> None:
    x, layer, pairs = inputs(kinds)
    weights = [] if layer is None else [layer.weight, layer.bias]
    given = [x.requires_grad_(), *weights, *(value.requires_grad_() for pair in pairs for value in pair)]

    expected = F.group_norm(x, GROUPS, *(weights or (None, None)))
    for scale, shift in pairs:
        expected = expected * scale + shift
    expected = F.silu(expected) if activate else expected
    actual = fused_norm(x, layer, pairs, activate=activate)

    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    upstream = features(*x.shape, seed=9)
    gradients = torch.autograd.grad((actual * upstream).sum(), given)
    for gradient, wanted in zip(
        gradients, torch.autograd.grad((expected * upstream).sum(), given), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


def test_in_bfloat16_it_keeps_no_float32_and_computes_in_it() -> None:
    x, layer, pairs = inputs("lp")
    assert layer is not None
    half = x.bfloat16().requires_grad_()
    scale, shift = (value.bfloat16().requires_grad_() for value in pairs[0])
    kept: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        actual = fused_norm(half, layer.float(), [(scale, shift)])
    assert actual.dtype == torch.bfloat16
    assert {value.dtype for value in kept if value.numel() > WIDTH} == {torch.bfloat16}
    assert sum(value.numel() for value in kept) == 3 * x.numel() + 2 * WIDTH
    # Of the rounded inputs only the result is rounded: to 8 bits.
    exact = fused_norm(half.double(), layer.double(), [(scale.double(), shift.double())])
    torch.testing.assert_close(actual.double(), exact, rtol=2**-8, atol=1e-6)

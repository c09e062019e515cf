"""Values that no weights have."""

import re

import pytest
import torch

from lungforge.errors import ContentError
from lungforge.models.checkpoint import LARGEST_WEIGHT, build_network, check_values

NAN, INF = float("nan"), float("inf")


def _with(values: list[float], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {"good": torch.ones(3, dtype=dtype), "bad": torch.tensor(values, dtype=torch.float64).to(dtype)}


@pytest.mark.parametrize(
    ("values", "dtype", "counts"),
    [
        ([NAN, 0, 1], torch.float32, "bad (1 of 3 values, such as nan)"),
        ([0, NAN, NAN], torch.float16, "bad (2 of 3 values, such as nan)"),
        ([INF, 0, -INF], torch.bfloat16, "bad (2 of 3 values, such as inf)"),
        ([-INF, NAN, 0], torch.float32, "bad (2 of 3 values, such as -inf)"),
        ([1e300, 0, 0], torch.float64, "bad (1 of 3 values, such as 1e+300)"),
        ([0, -2e6, 0], torch.float32, "bad (1 of 3 values, such as -2e+06)"),
        ([0, 65504 * 2**10, 0], torch.bfloat16, "bad (1 of 3 values"),
    ],
)
def test_what_is_no_weight_is_named_and_counted(values: list[float], dtype: torch.dtype, counts: str) -> None:
    with pytest.raises(ContentError, match=re.escape(counts)):
        check_values(_with(values, dtype))


def test_of_many_some_are_named() -> None:
    weights = {f"w{index}": torch.tensor([NAN]) for index in range(5)}
    with pytest.raises(ContentError, match=r"w0 .*w1 .*w2 .* and 2 more tensors; take an earlier"):
        check_values(weights)


def test_sound_weights_pass() -> None:
    check_values(_with([LARGEST_WEIGHT, -LARGEST_WEIGHT, 1e-45]))
    check_values(_with([0, 0, 0], torch.float16) | {"count": torch.tensor(7), "none": torch.ones(0)})
    check_values({})
    # float16's largest number is below the bound.
    check_values(_with([65504, -65504, 6e-8], torch.float16))


def test_zeros_alone_are_no_network() -> None:
    with pytest.raises(ContentError, match="all weights are zero"):
        check_values({"a": torch.zeros(3), "count": torch.tensor(7)})


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_weights_that_are_quantised_or_complex_are_refused(dtype: torch.dtype) -> None:
    weights = {"weight": torch.ones(1, 2, dtype=dtype), "bias": torch.ones(1)}
    with pytest.raises(ContentError, match=r"weight holds (int8|complex64) values"):
        build_network(lambda: torch.nn.Linear(2, 1), weights)

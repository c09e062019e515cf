"""The moving averages of the weights, against closed forms and a slow sum."""

import pytest
import torch
from torch import nn

from lungforge.models.average_profiles import exponent
from lungforge.models.ema import MovingAverages


def test_the_average_of_weights_that_grow_evenly() -> None:
    layer = nn.Linear(1, 1)
    averages = MovingAverages(layer.state_dict(), [0.1, 0.05])
    steps = 2000
    for step in range(1, steps + 1):
        layer.weight.data.fill_(step / steps)
        averages.update(layer.state_dict())
    for length in (0.1, 0.05):
        # The mean of t under a density that grows as t^γ on [0, 1].
        gamma = exponent(length)
        value = float(averages.by_length[length]["weight"])
        assert value == pytest.approx((gamma + 1) / (gamma + 2), abs=1 / steps)
    assert averages.weights is averages.by_length[0.1]


def test_the_average_is_the_sum_of_the_steps_by_their_profile() -> None:
    layer = nn.Linear(3, 2, bias=False)
    averages = MovingAverages(layer.state_dict(), [0.2])
    path = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0))
    power = exponent(0.2) + 1
    for step, weight in enumerate(path, 1):
        layer.weight.data.copy_(weight)
        averages.update(layer.state_dict())
        written_out = sum(
            ((s**power - (s - 1) ** power) / step**power) * path[s - 1].double() for s in range(1, step + 1)
        )
        assert torch.allclose(averages.weights["weight"].double(), written_out, atol=1e-6)


def test_the_random_start_is_forgotten_at_once() -> None:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 100.0)
    averages = MovingAverages(layer.state_dict(), [0.1])
    nn.init.zeros_(layer.weight)
    averages.update(layer.state_dict())
    assert float(averages.weights["weight"]) == 0


def test_going_on_from_a_state_equals_never_stopping() -> None:
    torch.manual_seed(0)
    layer, lengths = nn.Linear(3, 3), [0.2, 0.05, 0.1]
    whole, first = MovingAverages(layer.state_dict(), lengths), MovingAverages(layer.state_dict(), lengths)
    for index, weight in enumerate(torch.randn(6, 3, 3)):
        layer.weight.data.copy_(weight)
        whole.update(layer.state_dict())
        if index == 2:
            state = {key: value.clone() for key, value in first.state_dict().items()}
            first = MovingAverages(layer.state_dict(), lengths)
            first.load_state_dict(state)
        first.update(layer.state_dict())
    for length in lengths:
        assert torch.equal(first.by_length[length]["weight"], whole.by_length[length]["weight"])
    assert first.updates == 6


def test_a_state_of_another_network_or_of_other_lengths_is_refused() -> None:
    weights = nn.Linear(2, 2).state_dict()
    averages = MovingAverages(weights, [0.1])
    for other in (
        MovingAverages(nn.Linear(2, 2, bias=False).state_dict(), [0.1]),
        MovingAverages(weights, [0.1, 0.05]),
    ):
        with pytest.raises(KeyError, match="other keys"):
            averages.load_state_dict(other.state_dict())

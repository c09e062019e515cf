import pytest
import torch
from torch import nn

from lungforge.models.ema import MovingAverage


def test_the_average_warms_up_then_keeps_its_decay():
    layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    average = MovingAverage(layer.state_dict(), decay=0.5)
    nn.init.ones_(layer.weight)
    expected = 0.0
    for update in range(20):
        average.update(layer.state_dict())
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert float(average.weights["weight"]) == pytest.approx(expected, abs=1e-6)
    assert float(average.weights["weight"]) > 0.999


def test_early_averages_forget_the_random_start():
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 100.0)
    average = MovingAverage(layer.state_dict())
    nn.init.zeros_(layer.weight)
    for _ in range(100):
        average.update(layer.state_dict())
    assert float(average.weights["weight"]) < 1e-3  # a constant 0.9999 would still have 99


def test_going_on_from_a_state_equals_never_stopping():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    whole, first = MovingAverage(layer.state_dict()), MovingAverage(layer.state_dict())
    steps = [torch.randn(3, 3) for _ in range(6)]
    for index, weight in enumerate(steps):
        layer.weight.data.copy_(weight)
        whole.update(layer.state_dict())
        if index == 2:
            state = {key: value.clone() for key, value in first.state_dict().items()}
            first = MovingAverage(layer.state_dict())
            first.load_state_dict(state)
        first.update(layer.state_dict())
    assert torch.equal(first.weights["weight"], whole.weights["weight"])
    assert first.updates == 6


def test_a_state_of_another_network_is_refused():
    average = MovingAverage(nn.Linear(2, 2).state_dict())
    with pytest.raises(KeyError, match="other keys"):
        average.load_state_dict(MovingAverage(nn.Linear(2, 2, bias=False).state_dict()).state_dict())

import pytest
import torch

from lungforge.errors import InputError
from services.common.devices import worker_device


def test_a_gpu_that_ray_counts_and_pytorch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_device(0) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert worker_device(0.5) == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"a worker on .* is to use a GPU, and PyTorch .* finds none; check"):
        worker_device(1)

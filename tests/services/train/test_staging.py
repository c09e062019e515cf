"""What a checkpoint holds is the state of its step, whatever the steps after it do."""

import threading

import pytest
import torch
from safetensors.torch import load

from lungforge.models.checkpoint import to_safetensors
from services.train import checkpoints as module
from services.train.checkpoints import Checkpoint, CheckpointStore
from services.train.staging import Staging

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _groups(device: str = "cpu") -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 4, 4, generator=generator).to(device, memory_format=torch.channels_last)
    return {
        "weights": {"convolution": image, "half": torch.randn(3, generator=generator).half().to(device)},
        "counts": {"steps": torch.tensor(7, device=device)},
    }


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, ON_GPU])])
def test_a_file_holds_what_was_there_when_it_was_staged(device):
    groups = _groups(device)
    staging = Staging()
    for _ in range(2):
        before = {name: to_safetensors(group) for name, group in groups.items()}
        staging.copy(groups)
        for group in groups.values():
            for tensor in group.values():
                tensor.mul_(2)
        assert dict(staging.files()) == before
    # Another state than before: nothing is left of that one.
    staging.copy({"weights": {"half": torch.ones(5)}})
    assert dict(staging.files()) == {"weights": to_safetensors({"half": torch.ones(5)})}


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    released, write = threading.Event(), module.write_bytes_atomic

    def slow(uri, data):
        assert released.wait(30)
        write(uri, data)

    monkeypatch.setattr(module, "write_bytes_atomic", slow)
    groups = _groups()
    kept = {name: {key: value.clone() for key, value in group.items()} for name, group in groups.items()}
    with CheckpointStore(str(tmp_path), "0" * 64, keep=2) as store:
        store.save(Checkpoint(1, groups, torch.zeros(1, 2, dtype=torch.float64)))
        # The step after: the store has written nothing yet.
        assert not list(tmp_path.rglob("*.safetensors"))
        for group in groups.values():
            for tensor in group.values():
                tensor.zero_()
        released.set()
        store.wait()
        loaded = store.load(1)
    assert loaded.state.keys() == kept.keys()
    for name, group in kept.items():
        for key, value in group.items():
            assert torch.equal(loaded.state[name][key], value)
    (file,) = tmp_path.rglob("weights.safetensors")
    assert load(file.read_bytes())["half"].dtype == torch.float16

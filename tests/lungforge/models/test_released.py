"""Files that are taken for checkpoints: where the weights are in them, or what they are instead."""

import argparse
import gzip
import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from lungforge.errors import ContentError, InputError
from lungforge.models.released import read_released

MARKER = "input_blocks.0.0.weight"
Weights = dict[str, Tensor]


def _weights(value: float) -> Weights:
    return {MARKER: torch.full((2, 1, 3, 3), value), "out.2.bias": torch.full((2,), value)}


def _under(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{name}": value for name, value in weights.items()}


AVERAGE, MODEL = _weights(1.0), _weights(2.0)
OPTIMISER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (AVERAGE, ""),
        (OrderedDict(AVERAGE), ""),
        ({name: torch.nn.Parameter(value) for name, value in AVERAGE.items()}, ""),
        (AVERAGE | {"updates": torch.tensor(7)}, ""),
        (_under("module.", AVERAGE) | {"n_averaged": torch.tensor(7)}, "module"),
        (_under("_orig_mod.", AVERAGE), ""),
        (_under("module._orig_mod.", AVERAGE), "module"),
        (_under("_orig_mod.module.", AVERAGE), "module"),
        (_under("model.diffusion_model.", AVERAGE), "model.diffusion_model"),
        (_under("module._orig_mod.model.", AVERAGE), "module.model"),
        (_under("_fsdp_wrapped_module.", AVERAGE), ""),
        ({MARKER.replace("0.0", "0._orig_mod.0"): AVERAGE[MARKER], "out.2.bias": AVERAGE["out.2.bias"]}, ""),
        ({"state_dict": AVERAGE, "epoch": 3}, "state_dict"),
        ({"state_dict": _under("model.", AVERAGE), "epoch": 3}, "state_dict.model"),
        ({"model": AVERAGE, "args": argparse.Namespace(lr=1e-4)}, "model"),
        ({"model": MODEL, "ema": AVERAGE, "optimizer": OPTIMISER, "step": 80000}, "ema"),
        ({"model": MODEL, "model_ema": AVERAGE}, "model_ema"),
        ({"net": MODEL, "ema": {"decay": 0.99, "shadow": AVERAGE}}, "ema.shadow"),
        ({"net": MODEL, "ema": {"module": _under("module.", AVERAGE)}}, "ema.module.module"),
        (_under("online_model.", MODEL) | _under("ema_model.", AVERAGE), "ema_model"),
        ({"ema": _under("online_model.", MODEL) | _under("ema_model.", AVERAGE)}, "ema.ema_model"),
        (MODEL | _under("ema.", AVERAGE), "ema"),
        ({"generator": AVERAGE, "discriminator": {"conv.weight": torch.ones(2)}}, "generator"),
        ([AVERAGE, OPTIMISER], "0"),
        # Not the average of anything.
        ({"schema": AVERAGE}, "schema"),
    ],
)
def test_the_weights_are_found_and_of_several_the_average(tmp_path: Path, content: Any, key: str) -> None:
    torch.save(content, tmp_path / "file.pt")
    released = read_released(tmp_path / "file.pt", MARKER)
    assert released.key == key
    assert set(released.weights) == set(AVERAGE)
    assert all(torch.equal(released.weights[name], AVERAGE[name]) for name in AVERAGE)


def test_what_was_not_taken_is_named(tmp_path: Path) -> None:
    torch.save({"model": MODEL, "ema": AVERAGE}, tmp_path / "file.pt")
    assert read_released(tmp_path / "file.pt", MARKER).others == ("model",)


@pytest.mark.parametrize("name", ["file.safetensors", "file.pt"])
def test_safetensors_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(save(_under("_orig_mod.", AVERAGE)))
    assert set(read_released(tmp_path / name, MARKER).weights) == set(AVERAGE)


def test_the_old_format_is_read(tmp_path: Path) -> None:
    torch.save({"ema": AVERAGE}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_released(tmp_path / "old.pt", MARKER).key == "ema"


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ({"model": MODEL, "backup": AVERAGE}, "model, backup"),
        ({"ema_0.99": MODEL, "ema_0.9999": AVERAGE}, r"ema_0\.99, ema_0\.9999"),
        (MODEL | _under("other.", AVERAGE), r"\(top\), other"),
    ],
)
def test_of_several_that_are_alike_none_is_guessed(tmp_path: Path, content: Any, keys: str) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(InputError, match=f"several networks, under the keys {keys}; save the one"):
        read_released(tmp_path / "file.pt", MARKER)


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code of the file was run')",))


def _saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _zipped(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("ema.pt")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"12345"))
    return buffer.getvalue()


def _script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


WHOLE, OLD = _saved(AVERAGE), _saved(AVERAGE, _use_new_zipfile_serialization=False)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2609256472\n"
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: b"", r"is empty \(0 bytes"),
        (lambda: bytes(5000), r"is empty \(5000 bytes, none but zeros at its start\)"),
        (lambda: PAGE, r"is a web page \('Quota exceeded'\), not a checkpoint; download the file itself"),
        (lambda: b"<html>sign in</html>", "is a web page, not a checkpoint"),
        (lambda: b"<?xml version='1.0'?><html></html>", "is a web page"),
        (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an XML document"),
        (lambda: LFS, "Git LFS pointer of a file of 2609256472 bytes, .* `git lfs pull`"),
        (lambda: b'{"message": "Not Found"}', 'is a text file, beginning \'."message"'),
        (lambda: b"Not Found", "is a text file, beginning 'Not Found'"),
        (lambda: gzip.compress(WHOLE), "is compressed with gzip; unpack it"),
        (_tarred, r"is a tar archive; unpack it, and give the \.pt file inside"),
        (
            lambda: _zipped({"ema.pt": WHOLE, "note.txt": b""}),
            r"a ZIP archive of other files \(ema\.pt, note",
        ),
        (lambda: _zipped({}), r"a ZIP archive of other files \(none\)"),
        (_script, "is a TorchScript program"),
        (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
        (lambda: WHOLE[: len(WHOLE) // 2], r"is cut short: an archive without its end, of \d+ bytes"),
        (lambda: WHOLE[:-30], "is cut short"),
        (lambda: OLD[: len(OLD) // 2], "is cut short|is not a PyTorch checkpoint, or is damaged"),
        (lambda: OLD[:-10], "is cut short|is not a PyTorch checkpoint, or is damaged"),
        (lambda: save(AVERAGE)[:-10], "safetensors"),
        (lambda: bytes(range(1, 256)) * 9, "is not a PyTorch checkpoint, or is damaged"),
        (lambda: _saved(OPTIMISER), "is the state of an optimizer, not of a network"),
        (lambda: _saved({"optimizer": OPTIMISER}), "holds the state of an optimizer only"),
        (lambda: _saved({"optimizer": OPTIMISER, "step": 3}), "its keys are optimizer, step"),
        (lambda: _saved({"fc.weight": torch.ones(2)}), r"weights of another network, .* \(fc\.weight\)"),
        (lambda: _saved({}), "holds no state dict: it is empty"),
        (lambda: _saved([1, 2]), "holds a list, no state dict"),
        (lambda: _saved(torch.ones(3)), r"holds one tensor \(3,\)"),
        (lambda: _saved({"ema": [torch.ones(2)]}), "its keys are ema"),
        (lambda: _saved(torch.nn.Linear(2, 2)), r"Python objects beside tensors \(torch\.nn\.\S+Linear\)"),
        (lambda: _saved({"w": _Trap()}), "Python objects beside tensors .*exec"),
        (lambda: pickle.dumps(_Trap()), "holds Python objects beside|is not a PyTorch checkpoint"),
        (
            lambda: _saved(_under("_orig_mod.", AVERAGE) | MODEL),
            "have input_blocks.0.0.weight twice",
        ),
    ],
)
def test_what_holds_no_weights_is_told_apart_in_a_line(
    tmp_path: Path, data: Callable[[], bytes], message: str
) -> None:
    path = tmp_path / "download.pt"
    path.write_bytes(data())
    with pytest.raises(ContentError, match=message) as error:
        read_released(path, MARKER)
    line = str(error.value)
    assert "\n" not in line
    assert "weights_only" not in line
    assert "arbitrary" not in line


def test_what_is_no_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; give the path of a \.pt file in it"):
        read_released(tmp_path, MARKER)
    with pytest.raises(InputError, match=r"there is no file .*none\.pt"):
        read_released(tmp_path / "none.pt", MARKER)
    with pytest.raises(InputError, match="a URI; fetch it first"):
        read_released(Path("s3://lab/ema.pt"), MARKER)

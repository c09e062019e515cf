"""Weights out of files from elsewhere: what kind of file it is, and where in it the weights are.

Nothing in a file is ever run: PyTorch files are read with ``weights_only``. PyTorch answers to what it cannot
read that way with the advice to switch that off, so none of its messages is passed on.
"""

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lungforge.errors import AccessError, ContentError, InputError
from lungforge.models.checkpoint import from_safetensors

#: Bytes at the start of a file that tell what it is.
_HEAD = 4096
#: How files begin that people take for checkpoints, and what each is.
_BEGINNINGS = {
    b"\x1f\x8b": "compressed with gzip; unpack it, and give the file inside",
    b"BZh": "compressed with bzip2; unpack it, and give the file inside",
    b"\xfd7zXZ": "compressed with xz; unpack it, and give the file inside",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, and give the file inside",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it, and give the file inside",
    b"Rar!": "a RAR archive; unpack it, and give the file inside",
    b"\x89HDF": "an HDF5 file, of Keras or TensorFlow; give a PyTorch state dict",
    b"\x93NUMPY": "a NumPy array; give a PyTorch state dict",
    b"GGUF": "a GGUF file; give a PyTorch state dict",
    b"%PDF": "a PDF document; download the checkpoint itself",
    b"\x89PNG": "a PNG image; give a PyTorch state dict",
}
_WEB_PAGE = re.compile(rb"<(!doctype\s+html|html|head|body|title)\b", re.IGNORECASE)
_LFS = b"version https://git-lfs.github.com/spec/"
_AVERAGE = re.compile(r"(?<![a-z])(ema|swa|polyak)(?![a-z])|averag|shadow")
#: What compilation and sharding put between a module's name and its weights' names.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: How deep state dicts are looked for, and how many names a message shows.
_DEPTH, _NAMED = 5, 8


@dataclass(frozen=True)
class Released:
    """The weights of a network in a file.

    Attributes:
        weights: The state dict, under the network's names.
        key: Where in the file it was, such as ``ema`` or ``state_dict.module``; empty at the top.
        others: Where the other weights of such a network are, which were not taken.
    """

    weights: dict[str, Tensor]
    key: str
    others: tuple[str, ...]


def read_released(path: Path, marker: str) -> Released:
    """Read the weights of a network from a PyTorch or safetensors file, of whatever name.

    They may be at the top or within the file, under any prefix (``module.``, ``_orig_mod.``, ``model.``). Of
    several, a moving average is taken.

    Args:
        path: The file.
        marker: Name of a weight that every such network has, by which its weights are found.

    Raises:
        InputError: There is no such file; or it holds the weights of several such networks, which it names.
        ContentError: It is of another kind, cut, or holds no such weights; says what it is.
        AccessError: It cannot be read.
    """
    content = _read(path)
    found = list(_find(content, marker))
    if not found:
        raise ContentError(f"{path} {_what_it_holds(content)}")
    averages = [one for one in found if _AVERAGE.search(one.key.lower()) and "online" not in one.key.lower()]
    choice = averages or found
    if len(choice) > 1:
        raise InputError(
            f"{path} holds the weights of several networks, under the keys "
            f"{', '.join(one.key or '(top)' for one in choice)}; save the one that you mean alone"
        )
    others = tuple(one.key or "(top)" for one in found if one is not choice[0])
    return Released(choice[0].weights, choice[0].key, others)


def _read(path: Path) -> Any:
    """The content of a file, which may be of any kind."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        where = "a URI; fetch it first, and" if "://" in str(path) or ":/" in str(path) else "missing;"
        raise InputError(f"there is no file {path}: it is {where} give the path of a .pt file") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of a .pt file in it") from None
    except OSError as error:
        raise AccessError(f"{path}: {error.strerror or error}; check the permissions of the file") from error
    size = path.stat().st_size
    wrong = _wrong_kind(path, head, size)
    if wrong is not None:
        raise ContentError(f"{path} is {wrong}")
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size:
        return from_safetensors(path.read_bytes())
    return _read_pytorch(path, size)


def _wrong_kind(path: Path, head: bytes, size: int) -> str | None:
    """What a file is that holds no tensors; None where it may."""
    if not head.strip(b"\0"):
        return f"empty ({size} bytes, none but zeros at its start); fetch it again"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _WEB_PAGE.search(text[:1024]) and text.startswith(b"<"):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", head, re.IGNORECASE)
        called = f" ({' '.join(title[1].decode(errors='replace').split())!r})" if title else ""
        return f"a web page{called}, not a checkpoint; download the file itself, signed in if need be"
    if text.startswith(b"<"):
        return "an XML document, perhaps a store's error, not a checkpoint; download the file itself"
    if text.startswith(_LFS):
        stated = re.search(rb"size (\d+)", text)
        of = f" of a file of {int(stated[1])} bytes" if stated else ""
        return f"a Git LFS pointer{of}, not the file; fetch it with `git lfs pull`"
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it, and give the .pt file inside"
    if head.startswith(b"PK"):
        return _wrong_zip(path, size)
    if head.isascii() and b"\0" not in head and text[:1].isalnum() | text.startswith((b"{", b"[", b"#")):
        return f"a text file, beginning {text[:40].decode()!r}; give a PyTorch state dict"
    return None


def _wrong_zip(path: Path, size: int) -> str | None:
    """What a ZIP archive is that PyTorch did not write; None where it did."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        return f"cut short: an archive without its end, of {size} bytes; fetch it again"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            return "a TorchScript program; save the state dict of its network with torch.save"
        return None
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"a ZIP archive of other files ({shown or 'none'}); unpack it, and give the .pt file inside"


def _read_pytorch(path: Path, size: int) -> Any:
    """What ``torch.save`` wrote, in either of its formats."""
    try:
        # A training script's options: plain values, in very many checkpoints beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except EOFError:
        raise ContentError(f"{path} is cut short ({size} bytes); fetch it again") from None
    except MemoryError as error:
        raise AccessError(f"{path}: there is not enough memory for its {size} bytes") from error
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ContentError(f"{path} {_unreadable(str(error), size)}") from None


def _unreadable(message: str, size: int) -> str:
    """Why a file cannot be read, from PyTorch's message, without its advice."""
    named = re.search(r"GLOBAL ([\w.]+)|(?:class|function|global) ([\w.]+)", message)
    if "Unsupported" in message and named:
        name = named[1] or named[2]
        return (
            f"holds Python objects beside tensors ({name}), which are never loaded, as that could run code; "
            "where it was made, save the weights alone: torch.save(network.state_dict(), FILE)"
        )
    if re.search(r"truncated|unexpected (end|EOF)|PytorchStreamReader|central directory|corrupt", message):
        return f"is cut short or damaged ({size} bytes); fetch it again"
    return "is not a PyTorch checkpoint, or is damaged; give a .pt file of a state dict, or fetch it again"


def _find(content: Any, marker: str, key: str = "", depth: int = 0) -> Iterator[Released]:
    """The weights of every such network in a content, however nested."""
    if depth > _DEPTH:
        return
    if isinstance(content, (list, tuple)):
        content = {str(position): value for position, value in enumerate(content)}
    if isinstance(content, argparse.Namespace):
        content = vars(content)
    if not isinstance(content, Mapping) or _is_optimiser(content):
        return
    yield from _split(_plain_names(content), marker, key)
    for name, value in content.items():
        if not isinstance(value, Tensor):
            yield from _find(value, marker, f"{key}.{name}".lstrip("."), depth + 1)


def _plain_names(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a mapping, without what compilation and sharding add to their names."""
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            plain = _WRAPPERS.sub("", str(name))
            if plain in tensors:
                raise ContentError(f"the weights have {plain} twice, with and without a wrapper's name")
            tensors[plain] = value
    return tensors


def _split(tensors: dict[str, Tensor], marker: str, key: str) -> Iterator[Released]:
    """The networks in a flat mapping: one for each prefix that stands before the marker."""
    prefixes = [
        name.removesuffix(marker)
        for name in tensors
        if name.endswith(marker) and (name == marker or name[: -len(marker)].endswith("."))
    ]
    for prefix in prefixes:
        longer = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        weights = {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix) and not (longer and name.startswith(longer))
        }
        # Counters beside the weights (updates, n_averaged); no network here has a weight without a side.
        weights = {name: value for name, value in weights.items() if value.ndim or "." in name}
        yield Released(weights, f"{key}.{prefix}".strip("."), ())


def _is_optimiser(content: Mapping[Any, Any]) -> bool:
    return "param_groups" in content and "state" in content


def _what_it_holds(content: Any) -> str:
    """Words for a file without such weights."""
    if isinstance(content, Tensor):
        return f"holds one tensor {tuple(content.shape)}, not a state dict (names to tensors)"
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, no state dict (names to tensors)"
    if _is_optimiser(content):
        return (
            "is the state of an optimizer, not of a network; give the file of the weights, such as ema_*.pt"
        )
    if not content:
        return "holds no state dict: it is empty"
    shown = ", ".join(map(str, list(content)[:_NAMED])) + (", ..." if len(content) > _NAMED else "")
    if any(isinstance(value, Tensor) for value in content.values()):
        return f"holds weights of another network, which are not of a semantic diffusion network ({shown})"
    optimiser = [
        str(name) for name, value in content.items() if isinstance(value, Mapping) and _is_optimiser(value)
    ]
    if len(optimiser) == len(content):
        return f"holds the state of an optimizer only ({shown}); give the file of the weights"
    return f"holds no state dict of a semantic diffusion network; its keys are {shown}"

"""Features of a part's slices: from the network, or from a cache that keeps each part under its content.

A file of the cache is named by all that decides its features, so that it never goes stale; it is written
whole, so that writers may race; and it ends in a checksum, so that a damaged one is noticed and made anew.
"""

import dataclasses
import functools
import hashlib
import io

import numpy as np
import torch
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.datasets import Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.extractors import Description
from lungforge.metrics.features import Extractor, load_extractor
from lungforge.storage import join_uri, read_bytes, write_bytes_atomic
from lungforge.storage.files import read_if_there

_CHECKSUM_BYTES = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class Network:
    """Which extractor a task loads, and where its features are kept.

    Attributes:
        description: The extractor's.
        weights: URI of its weights; None for those that it finds itself.
        cache: URI of the cache; None for no cache.
    """

    description: Description
    weights: str | None = None
    cache: str | None = None


def features_of(
    network: Network, part: Part, rows: NDArray[np.int64], grey: NDArray[np.uint8], cut: Cut | None = None
) -> NDArray[np.float32]:
    """Features ``[R, D]`` float32 of some slices of a part.

    Args:
        network: The extractor and its cache.
        part: The part, whose rows were read: so its sha256 is that of the bytes that they are from.
        rows: Which of its rows, ascending, int64 ``[R]``.
        grey: Their grey values ``[R, H, W]`` uint8.
        cut: How they were cut, if they are patches of the part's slices.

    Raises:
        AccessError: The cache may not be read or written.
    """
    if not len(rows):
        return np.empty((0, network.description.dimensions), dtype=np.float32)
    if network.cache is None:
        return worker_extractor(network).embed_pictures(grey)
    name = _name(network.description, part, rows, cut)
    features = kept_array(network.cache, name, (len(rows), network.description.dimensions))
    if features is None:
        features = worker_extractor(network).embed_pictures(grey)
        keep_array(network.cache, name, features)
    return features


def kept_array(
    cache: str, name: str, shape: tuple[int, int], *, missing: bool = False
) -> NDArray[np.float32] | None:
    """An array of the cache; None when it is not there, is damaged, or is that of others under this name.

    Args:
        cache: URI of the cache.
        name: The digest of all that decides the array.
        shape: What it must have.
        missing: Whether NaN may stand for missing values.

    Raises:
        AccessError: The cache may not be read.
    """
    content = read_if_there(_place(cache, name))
    return None if content is None else _decode(content, name, shape, missing=missing)


def keep_array(cache: str, name: str, array: NDArray[np.float32]) -> None:
    """Write an array to the cache.

    Raises:
        AccessError: The cache may not be written.
    """
    write_bytes_atomic(_place(cache, name), _encode(array, name))


@functools.lru_cache(maxsize=1)
def worker_extractor(network: Network) -> Extractor:
    """The extractor, once in each worker process, and only if something is to be embedded."""
    description = network.description
    weights = None if network.weights is None else read_bytes(network.weights)
    return load_extractor(
        description.name,
        weights=weights,
        weights_sha256=description.weights_sha256,
        device=available_device(),
    )


def available_device() -> str:
    """The torch device that extractors run on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _name(description: Description, part: Part, rows: NDArray[np.int64], cut: Cut | None) -> str:
    """The digest of all that decides the features, down to their rounding."""
    return digest(
        {
            "part": part.sha256,
            "rows": rows.tolist(),
            "cut": None if cut is None else dataclasses.asdict(cut),
            "extractor": dataclasses.asdict(description),
            "torch": torch.__version__,
            "device": available_device(),
        }
    )


def _place(cache: str, name: str) -> str:
    return join_uri(cache, f"{name}.npy")


def _encode(features: NDArray[np.float32], name: str) -> bytes:
    """The bytes of a .npy file, and behind them a checksum, which readers of such files pass over."""
    file = io.BytesIO()
    np.save(file, features, allow_pickle=False)
    return file.getvalue() + _checksum(file.getvalue(), name)


def _decode(
    content: bytes, name: str, shape: tuple[int, int], *, missing: bool
) -> NDArray[np.float32] | None:
    """The features in a file of the cache; None when it is damaged, or is that of others under this name."""
    array, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if checksum != _checksum(array, name):
        return None
    try:
        features: NDArray[np.float32] = np.load(io.BytesIO(array), allow_pickle=False)
    except (ValueError, EOFError):
        return None
    # Anyone can compute a checksum.
    if features.dtype != np.float32 or features.shape != shape:
        return None
    finite = ~np.isinf(features) if missing else np.isfinite(features)
    return features if finite.all() else None


def _checksum(array: bytes, name: str) -> bytes:
    return hashlib.sha256(name.encode() + array).digest()

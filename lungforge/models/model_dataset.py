"""Weights of any network as bytes."""

from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor


def to_safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """Named tensors as the bytes of a safetensors file; the same for the same values, wherever they are."""
    return save({key: value.detach().cpu().contiguous() for key, value in weights.items()})

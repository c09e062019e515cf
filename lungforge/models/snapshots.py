"""Snapshots of averages of the weights: files beside a model, to make averages of other lengths from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from lungforge.datasets.manifest import Part


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """An average of the weights that was kept on the way.

    Attributes:
        length: Its relative length.
        updates: Steps that it is of.
        part: The safetensors file in the dataset of the model.
    """

    length: float
    updates: int
    part: Part

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with the whole part."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What ``to_json`` gave."""
        return cls(document["length"], document["updates"], Part(**document["part"]))


def snapshot_name(length: float, updates: int) -> str:
    """The name of a snapshot's file."""
    return f"average-{updates:08d}-{length:g}.safetensors"


def to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float16, half the size; a tensor with values beyond its range stays as it is.

    Not bfloat16: the factors of a combination have either sign, so that the rounding of the snapshots counts
    more than once, and float16 rounds eight times finer. Weights lie well within its range; counts of
    batches may not.
    """
    largest = torch.finfo(torch.float16).max
    return {
        key: value.half() if not value.numel() or float(value.abs().max()) <= largest else value
        for key, value in weights.items()
    }

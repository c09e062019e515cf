"""The average of another length, made from the snapshots that were kept with a model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lungforge.datasets import Dataset
from lungforge.errors import ContentError, InputError
from lungforge.models.average_profiles import LONGEST, SHORTEST
from lungforge.models.checkpoint import from_safetensors
from lungforge.models.model_dataset import AVERAGES, read_object
from lungforge.models.snapshots import Snapshot

#: More than any run has, and still a whole number in float64.
_MOST_UPDATES = 2**53


def combine(model: Dataset, snapshots: Sequence[Snapshot], factors: Sequence[float]) -> dict[str, Tensor]:
    """The sum of snapshots, each with its factor; one of them is in memory at a time.

    Args:
        model: The dataset that holds them.
        snapshots: As ``read_snapshots`` gives them.
        factors: As ``combination`` gives them.

    Returns:
        The weights by name, float32.

    Raises:
        ContentError: A snapshot is damaged, or of another network than the first.
    """
    weights: dict[str, Tensor] = {}
    for snapshot, factor in zip(snapshots, factors, strict=True):
        taken = _read(model, snapshot)
        if not weights:
            weights = {key: torch.zeros(value.shape, dtype=torch.float64) for key, value in taken.items()}
        if {key: value.shape for key, value in taken.items()} != {k: v.shape for k, v in weights.items()}:
            raise ContentError(
                f"{model.uri}: {snapshot.part.name} is of another network than {snapshots[0].part.name}; "
                "train the model again"
            )
        for key, value in taken.items():
            weights[key].add_(value, alpha=factor)
    return {key: value.float() for key, value in weights.items()}


def read_snapshots(model: Dataset) -> Sequence[Snapshot]:
    """The snapshots that the dataset of a model holds, without their content.

    Raises:
        InputError: It holds none.
        ContentError: What it says of them is wrong.
    """
    parts = {part.name: part for part in model.parts}
    if AVERAGES not in parts:
        raise InputError(
            f"{model.uri}: a model without snapshots of its averages; "
            "train it with `lungforge train --keep-averages`"
        )
    try:
        listed = read_object(model, AVERAGES)["snapshots"]
        snapshots = [Snapshot(item["length"], item["updates"], parts[item["file"]]) for item in listed]
    except (KeyError, TypeError):
        snapshots = []
    if len(snapshots) < 2 or not all(map(_is_taken, snapshots)):
        raise ContentError(
            f"{model.uri}: {AVERAGES} does not list snapshots of averages as training does; "
            "train the model again"
        )
    return snapshots


def _is_taken(snapshot: Snapshot) -> bool:
    """Whether it can be one: the file may be anyone's."""
    if type(snapshot.length) is not float or type(snapshot.updates) is not int:
        return False
    return SHORTEST <= snapshot.length <= LONGEST and 0 < snapshot.updates < _MOST_UPDATES


def _read(model: Dataset, snapshot: Snapshot) -> dict[str, Tensor]:
    data = model.read_file(snapshot.part.name)
    try:
        return from_safetensors(data)
    except ContentError as error:
        raise ContentError(f"{model.uri}: {snapshot.part.name}: {error}") from error

"""Pretrained models: copies in half precision of trained ones, small enough to come with the package."""

from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import ContentError, InputError
from lungforge.models.model_dataset import ModelDataset, write_model

#: What the weights are rounded to. They compute in float32: loading restores it.
HalfPrecision = Literal["float16", "bfloat16"]

#: The largest error of a tensor, relative to its norm. Rounding to the 8 digits of bfloat16 is wrong by 2^-9
#: at most; a larger error means that values lie beyond the range of the type.
LARGEST_ERROR: Final = 2.0**-8


def write_pretrained(model: ModelDataset, folder: str, dtype: HalfPrecision) -> Dataset:
    """Write a copy of a trained model, in half precision and without its history.

    The same model gives the same bytes. The copy has no parents, as what it was trained on does not come with
    it: its details name the scans, and its configuration has the sha256 of the original's manifest.

    Args:
        model: The trained model.
        folder: Where the copy goes; a finished copy of the same model is left as it is.
        dtype: Of the weights.

    Raises:
        InputError: The model does not name the scans that it was trained on; another dataset is there.
        ContentError: The weights cannot be kept in that type.
    """
    original = model.dataset.manifest
    if not model.details.series_uids:
        raise InputError(
            f"{model.dataset.uri} does not name the scans that it was trained on; evaluation could not keep "
            "them apart. Take a model that `lungforge train` made"
        )
    writer = DatasetWriter(
        uri=folder,
        kind=Kind.MODEL,
        config={**original.config, "original_sha256": model.dataset.manifest_sha256, "weights": dtype},
        seed=original.seed,
    )
    if writer.find_manifest() is None:
        weights = half_precision(model.read_weights(), dtype)
        write_model(writer, model.spec, model.config, weights, model.details)
    return Dataset.open(folder, Kind.MODEL)


def half_precision(weights: Mapping[str, Tensor], dtype: HalfPrecision) -> dict[str, Tensor]:
    """Weights rounded to a type of two bytes; what is no floating point stays as it is.

    Raises:
        ContentError: A tensor would lose more than rounding takes; names the first.
    """
    target = {"float16": torch.float16, "bfloat16": torch.bfloat16}[dtype]
    rounded = {
        name: value.to(target) if value.is_floating_point() else value for name, value in weights.items()
    }
    for name, value in weights.items():
        lost = float((rounded[name].double() - value.double()).norm())
        if not lost <= LARGEST_ERROR * float(value.double().norm()):
            raise ContentError(f"{name} does not keep its values in {dtype}; choose the other half precision")
    return rounded

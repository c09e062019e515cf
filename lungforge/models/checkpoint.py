"""Networks as bytes: a safetensors file, read by the document that describes its network."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lungforge.errors import ContentError, InputError
from lungforge.models.base import DataShape
from lungforge.models.document import from_document

Network = TypeVar("Network", bound=nn.Module)

#: Far above what a network with normalisation layers trains to: a larger weight comes from a run that has
#: diverged, or from a file of another byte order or type.
LARGEST_WEIGHT = 1e6
#: Tensors that a message names.
_NAMED = 3


def to_safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """Named tensors as the bytes of a safetensors file; the same for the same values, wherever they are."""
    return save({key: value.detach().cpu().contiguous() for key, value in weights.items()})


def from_safetensors(data: bytes) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, on the CPU.

    Raises:
        ContentError: The bytes are no such file.
    """
    try:
        return load(data)
    except SafetensorError as error:
        raise ContentError(
            f"the weights are not a sound safetensors file ({error}); make or fetch them again"
        ) from error


def load_network(
    data: bytes,
    document: Mapping[str, Any],
    *,
    classes: int | None = None,
    image_channels: int | None = None,
) -> nn.Module:
    """Build the network that a document describes and give it the weights.

    Args:
        data: Bytes of the safetensors file.
        document: The JSON document beside it.
        classes: Class count of the maps that it will be given; checked.
        image_channels: Channel count of the images; checked.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        InputError: The bytes are no safetensors, or the weights do not fit the document or the data.
    """
    spec, config = from_document(document)
    for name, wanted in (("classes", classes), ("image_channels", image_channels)):
        if wanted is not None and wanted != getattr(config, name):
            raise InputError(
                f"the network has {name} {getattr(config, name)}, the data has {wanted}; "
                "use a network that was trained on such data"
            )
    return spec.build(config, from_safetensors(data))


def build_network(make: Callable[[], Network], weights: Mapping[str, Tensor]) -> Network:
    """A network with the given weights, in evaluation mode, in channels-last memory.

    Args:
        make: Makes the network; called where tensors have no memory.
        weights: Its state dict, in any precision.

    Raises:
        ContentError: A tensor is missing, unknown, or of another shape, or its values cannot be weights.
    """
    with torch.device("meta"):
        network = make()
    wanted = network.state_dict()
    for key in sorted(set(wanted) ^ set(weights)):
        raise ContentError(
            f"the weights {'lack' if key in wanted else 'have an unknown'} {key}; they are of another network"
        )
    for key, value in wanted.items():
        if weights[key].shape != value.shape:
            raise ContentError(
                f"{key} has the shape {tuple(weights[key].shape)}, the configuration asks for "
                f"{tuple(value.shape)}; use the configuration that was written beside the weights"
            )
        if value.is_floating_point() and not weights[key].is_floating_point():
            raise ContentError(
                f"{key} holds {str(weights[key].dtype).removeprefix('torch.')} values; "
                "give weights in floating point, not quantised ones"
            )
    check_values(weights)
    # A moving average is all float32, counts of batches included.
    state = {key: value.to(wanted[key].dtype) for key, value in weights.items()}
    network.load_state_dict(state, assign=True)
    return network.to(memory_format=torch.channels_last).eval()


def check_values(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that no training ends with: NaN, infinite, absurdly large, or zero everywhere.

    A network of such weights samples slices that are even or noise, and nothing else would say so.

    Args:
        weights: Named tensors in any precision.

    Raises:
        ContentError: Names the tensors, how many values are wrong, and the first of them.
    """
    wrong, largest = [], []
    for key, value in weights.items():
        if value.is_meta or not value.numel() or not value.is_floating_point():
            continue
        # One pass without a copy; a NaN is passed on by both bounds.
        low, high = (float(bound) for bound in torch.aminmax(value.detach()))
        largest.append(max(-low, high))
        if not (low >= -LARGEST_WEIGHT and high <= LARGEST_WEIGHT):
            values = value.detach().double()
            bad = values[~(values.abs() <= LARGEST_WEIGHT)]
            wrong.append(f"{key} ({len(bad)} of {value.numel()} values, such as {float(bad[0]):g})")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more tensors" if len(wrong) > _NAMED else ""
        raise ContentError(
            f"weights that are not finite, or beyond ±{LARGEST_WEIGHT:g}, are no weights of a trained "
            f"network: {', '.join(wrong[:_NAMED])}{more}; "
            "take an earlier checkpoint, from before training diverged, or fetch the file again"
        )
    if largest and max(largest) == 0:
        raise ContentError("all weights are zero; the file was never filled, or is of no trained network")


def require_fields(config: DataShape, read: Mapping[str, Any]) -> None:
    """Compare a configuration with what the shapes of some weights tell.

    Args:
        config: The configuration.
        read: Names of its fields or properties, and their values by the weights.

    Raises:
        ContentError: A value differs; names the field and both values.
    """
    for name, value in read.items():
        if value != getattr(config, name):
            raise ContentError(
                f"the weights have {name} {value}, the configuration says {getattr(config, name)}; "
                "use the configuration that was written beside them"
            )

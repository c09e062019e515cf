"""``lungforge import-checkpoint``: a released or home-trained state dict as a model to draw with."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from lungforge.config import EXECUTION, identity
from lungforge.ct import classes
from lungforge.datasets import DatasetWriter, Kind
from lungforge.errors import InputError
from lungforge.models.model_dataset import to_safetensors
from lungforge.models.sdm.checkpoint import build, read_released, to_document, weights_config
from lungforge.models.sdm.config import UNetConfig
from services.common.progress import say

#: What data-parallel training puts before every name.
_WRAPPER = "module."


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """Turn the state dict of a semantic diffusion network, as a .pt file, into a model dataset."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = dataclasses.field(
        metadata=EXECUTION
    )
    """The state dict under the released names; best that of the moving average."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Where the model goes."""

    size: int = 256
    """Side of the images that it was trained on, in pixels, which the weights do not tell."""

    head_channels: int = 64
    """Channels of an attention head, which the weights do not tell either."""

    classes: int = classes.COUNT
    """Classes of its maps, an edge channel included."""

    image_channels: int | None = None
    """Channels of its images, 1 or 3; as the weights say when not given."""


@dataclasses.dataclass(frozen=True)
class ImportResult:
    """The model that was made: where, its network, and how many parameters that has."""

    model: str
    size: int
    classes: int
    image_channels: int
    base_channels: int
    channel_multipliers: tuple[float, ...]
    attention_sizes: tuple[int, ...]
    parameters: int


def run(config: ImportConfig) -> ImportResult:
    """Check the weights and write the model; one that is there already is left as it is.

    Raises:
        InputError: The file holds no such state dict, or that of another network than asked for.
    """
    weights = _unwrapped(read_released(Path(config.file)))
    shape = _checked(weights, config)
    network = build(shape, weights)
    with Path(config.file).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.MODEL,
        # No parents: nobody can tell which scans the network has seen, and evaluation will say so.
        config={"imported_sha256": sha256, **identity(config)},
    )
    if writer.find_manifest() is None:
        parts = [
            writer.write_file("model.safetensors", to_safetensors(network.state_dict())),
            writer.write_file(
                "config.json", (json.dumps(to_document(shape), sort_keys=True) + "\n").encode()
            ),
        ]
        writer.commit(parts, _details(config, shape))
    else:
        say(f"{writer.uri} is there already")
    if shape.classes != classes.COUNT:
        say(
            f"the network knows {shape.classes} classes and LungForge's maps have {classes.COUNT}: "
            "it can be kept and looked at, and `lungforge sample` will refuse it"
        )
    return ImportResult(
        model=writer.uri,
        size=shape.image_size,
        classes=shape.classes,
        image_channels=shape.image_channels,
        base_channels=shape.base_channels,
        channel_multipliers=shape.channel_multipliers,
        attention_sizes=shape.attention_sizes,
        parameters=sum(value.numel() for value in network.parameters()),
    )


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    if weights and all(name.startswith(_WRAPPER) for name in weights):
        return {name.removeprefix(_WRAPPER): value for name, value in weights.items()}
    return weights


def _checked(weights: dict[str, Tensor], config: ImportConfig) -> UNetConfig:
    """The network that the weights are of, where it is the one that was asked for."""
    shape = weights_config(weights, image_size=config.size, head_channels=config.head_channels)
    if shape.classes != config.classes:
        raise InputError(
            f"the weights have {shape.classes} label channels, and --classes is {config.classes}; "
            f"pass --classes {shape.classes} if that is the network that you mean"
        )
    if config.image_channels not in (None, shape.image_channels):
        raise InputError(
            f"the weights have {shape.image_channels} image channels, and --image-channels is "
            f"{config.image_channels}; pass --image-channels {shape.image_channels}, or leave it out"
        )
    return shape


def _details(config: ImportConfig, shape: UNetConfig) -> dict[str, object]:
    """As `lungforge train` writes them; what cannot be known is None."""
    return {
        "model": "sdm",
        "size": shape.image_size,
        "classes": shape.classes,
        "patch": None,
        "subsets": None,
        "series_uids": None,
        "rows": None,
        "steps": None,
        "imported_from": Path(config.file).name,
    }

"""``lungforge import-checkpoint``: a released or home-trained state dict as a model to sample with."""

import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from lungforge.config import EXECUTION, at_least, check, identity
from lungforge.ct import classes
from lungforge.datasets import DatasetWriter, Kind
from lungforge.errors import ContentError, InputError
from lungforge.models.model_dataset import ModelDetails, write_model
from lungforge.models.released import read_released
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.spec import SPEC
from lungforge.models.sdm.weights import MARKER, weights_config
from services.common.config_file import keep_config
from services.common.progress import say


@dataclass(frozen=True)
class ImportConfig:
    """Turn the weights of a semantic diffusion network, as a .pt file, into a model dataset."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = field(metadata=EXECUTION)
    """A .pt or safetensors file with the weights under the released names, whatever stands before them;
    of several, the moving average is taken."""

    out: str = field(metadata=EXECUTION)
    """Where the model goes."""

    size: int = field(default=256, metadata=at_least(1))
    """Side of the images that it was trained on, in pixels, which the weights do not tell."""

    head_channels: int = field(default=64, metadata=at_least(1))
    """Channels of an attention head, which the weights do not tell either."""

    classes: int = field(default=classes.COUNT, metadata=at_least(1))
    """Classes of its maps, an edge channel included."""

    image_channels: int | None = field(default=None, metadata=at_least(1))
    """Channels of its images, 1 or 3; as the weights say when not given."""

    def __post_init__(self) -> None:
        """Check the values."""
        check(self)


@dataclass(frozen=True)
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

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"lungforge sample --model {shlex.quote(self.model)} --data SLICES --out samples",)


def run(config: ImportConfig) -> ImportResult:
    """Check the weights and write the model; an existing model is kept.

    Raises:
        InputError: The file holds no such state dict, or that of another network than asked for.
    """
    released = read_released(Path(config.file), MARKER)
    try:
        shape = _checked(released.weights, config)
        network = SPEC.build(shape, released.weights)
    except ContentError as error:
        raise ContentError(f"{config.file}: {error}") from error
    if released.key:
        left = f" (not those of {', '.join(released.others)})" if released.others else ""
        say(f"took the weights under {released.key}{left}")
    with Path(config.file).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.MODEL,
        # No parents: nobody can tell which scans the network has seen, and evaluation will say so.
        config={"imported_sha256": sha256, **identity(config)},
    )
    if writer.find_manifest() is None:
        # What cannot be known of its training stays None.
        details = ModelDetails(
            model=SPEC.name,
            size=shape.image_size,
            classes=shape.classes,
            imported_from=Path(config.file).name,
        )
        keep_config("import-checkpoint", config, writer.uri)
        write_model(writer, SPEC, shape, network.state_dict(), details)
    else:
        say(f"{writer.uri} is finished already")
    if shape.classes != classes.COUNT:
        say(
            f"the network has {shape.classes} classes and LungForge's maps have {classes.COUNT}: "
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

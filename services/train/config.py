"""What a training run is: the configuration, and its presets."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from lungforge.config import EXECUTION
from lungforge.ct import classes
from lungforge.errors import InputError
from lungforge.sdm.config import UNetConfig


@dataclass(frozen=True)
class TrainConfig:
    """Train a generator on slices and maps."""

    data: str = dataclasses.field(metadata=EXECUTION)
    """The slices to train on, as `lungforge preprocess` made them; the images' size is the model's."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Where the model goes, and the checkpoints on the way; the same command again goes on from there."""

    subsets: tuple[int, ...] | None = None
    """Subsets of LUNA16 to train on; all when not given."""

    model: Literal["sdm"] = "sdm"
    """The generator: sdm is the semantic diffusion model."""

    patch: int | None = None
    """Train on patches of this many pixels, cut around nodules; whole slices when not given."""

    base_channels: int = 256
    """Width of the network's first level; a multiple of 32."""

    channel_multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level in units of the first; each level has half the side of the one before."""

    residual_blocks: int = 2
    """Residual blocks in each level."""

    attention_sizes: tuple[int, ...] = (32, 16, 8)
    """Sides, in pixels, of the feature maps with self-attention."""

    head_channels: int = 64
    """Channels of an attention head."""

    batch: int = 4
    """Images a step, over all workers; a multiple of the workers."""

    steps: int = 80_000
    """Steps of the optimiser."""

    learning_rate: float = 1e-4
    """Of AdamW, reached after the warm-up."""

    warm_up: int = 500
    """Steps over which the learning rate rises from zero."""

    clip: float = 1.0
    """Largest norm of the gradient; longer ones are shortened to it."""

    map_drop: float = 0.1
    """Share of images whose map is hidden, so that guidance has an unconditional model."""

    flip: float = 0.5
    """Share of images that are mirrored, left and right lung changing places."""

    average_decay: float = 0.9999
    """Decay of the moving average of the weights, which is what the model keeps."""

    seed: int = 0
    """Decides every random number of the run."""

    workers: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Processes that share each batch; the result differs only by rounding."""

    cpus_per_worker: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Cores, and so threads, of each worker."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION)
    """GPUs of each worker: 0 or 1."""

    checkpoint_every: int = dataclasses.field(default=1000, metadata=EXECUTION)
    """Steps between checkpoints: what a killed run loses at most."""

    keep: int = dataclasses.field(default=2, metadata=EXECUTION)
    """Newest checkpoints that are kept."""

    preview_every: int = dataclasses.field(default=0, metadata=EXECUTION)
    """Steps between preview pictures in OUT/previews; 0 for none."""

    max_failures: int = dataclasses.field(default=3, metadata=EXECUTION)
    """How often workers that die are replaced before the job gives up."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name in ("batch", "steps", "workers", "cpus_per_worker", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give at least 1")
        for name in ("warm_up", "preview_every", "max_failures"):
            if getattr(self, name) < 0:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give 0 or more")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give a number above 0")
        for name in ("map_drop", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give a share from 0 to 1")
        if not 0 <= self.average_decay < 1:
            raise InputError(
                f"--average-decay is {self.average_decay}; give at least 0 and below 1, such as 0.9999"
            )
        if self.model != "sdm":
            raise InputError(f"--model is {self.model!r}; the generators are: sdm")
        if self.subsets is not None and not self.subsets:
            raise InputError("--subsets is empty; name at least one, or leave it out to train on all")
        if self.gpus_per_worker not in (0, 1):
            raise InputError(
                f"--gpus-per-worker is {self.gpus_per_worker}; a worker has 0 or 1 (raise --workers)"
            )
        if self.batch % self.workers:
            raise InputError(
                f"--batch {self.batch} cannot be shared equally by --workers {self.workers}; give a multiple"
            )
        # The numbers of a step are of no use on another seed, and negative ones collide in other tools.
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; give 0 or more")
        if self.patch is not None:
            self.network(self.patch)

    def network(self, size: int) -> UNetConfig:
        """The shape of the network for images of a size.

        Raises:
            InputError: No such network is possible.
        """
        return UNetConfig(
            image_size=size,
            classes=classes.COUNT,
            base_channels=self.base_channels,
            channel_multipliers=self.channel_multipliers,
            residual_blocks=self.residual_blocks,
            attention_sizes=self.attention_sizes,
            head_channels=self.head_channels,
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def tiny(data: str, out: str) -> TrainConfig:
    """Seconds to a minute on a CPU, at 32 px: for tests and the demonstration."""
    return TrainConfig(
        data=data,
        out=out,
        base_channels=32,
        channel_multipliers=(1, 2),
        residual_blocks=1,
        attention_sizes=(16,),
        head_channels=32,
        batch=8,
        steps=300,
        learning_rate=1e-3,
        warm_up=20,
        average_decay=0.99,
        checkpoint_every=100,
    )


def cpu(data: str, out: str) -> TrainConfig:
    """About an hour on two cores, at 64 px."""
    return TrainConfig(
        data=data,
        out=out,
        base_channels=32,
        channel_multipliers=(1, 2, 3, 4),
        attention_sizes=(16, 8),
        head_channels=32,
        batch=8,
        steps=3000,
        learning_rate=3e-4,
        warm_up=100,
        average_decay=0.999,
        cpus_per_worker=2,
        checkpoint_every=250,
    )


def luna256(data: str, out: str) -> TrainConfig:
    """The published setting, at 256 px; a GPU a worker."""
    return TrainConfig(data=data, out=out, gpus_per_worker=1, cpus_per_worker=4)


#: Name on the command line to the function that makes the configuration.
PRESETS = {"tiny": tiny, "cpu": cpu, "luna256": luna256}

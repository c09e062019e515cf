"""What a training run is: the configuration, and its presets."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

from lungforge.config import EXECUTION
from lungforge.ct import classes
from lungforge.errors import InputError
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.sdm.config import UNetConfig

ModelName = Literal["sdm", "gaugan"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainConfig:
    """Train a generator on slices and maps."""

    data: str = dataclasses.field(metadata=EXECUTION)
    """The slices to train on, as `lungforge preprocess` made them; the images' size is the model's."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Where the model goes, and the checkpoints on the way; the same command again goes on from there."""

    subsets: tuple[int, ...] | None = None
    """Subsets of LUNA16 to train on; all when not given."""

    model: ModelName = "sdm"
    """The generator: sdm is the semantic diffusion model, gaugan the baseline (NoduleGAN)."""

    patch: int | None = None
    """Train on patches of this many pixels, cut around nodules; whole slices when not given."""

    base_channels: int = 256
    """Width that the multipliers multiply."""

    channel_multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level; of sdm the finest first, of gaugan's generator the coarsest first."""

    residual_blocks: int = 2
    """Residual blocks in each level (sdm)."""

    attention_sizes: tuple[int, ...] = (32, 16, 8)
    """Sides, in pixels, of the feature maps with self-attention (sdm)."""

    head_channels: int = 64
    """Channels of an attention head (sdm)."""

    latent_channels: int = 256
    """Length of the noise that an image starts from (gaugan)."""

    discriminator_channels: int = 64
    """Width of the discriminator's first layer (gaugan)."""

    batch: int = 4
    """Images a step, over all workers; a multiple of the workers."""

    steps: int = 80_000
    """Steps of the optimiser."""

    learning_rate: float = 1e-4
    """Reached after the warm-up; gaugan's discriminator learns four times as fast."""

    warm_up: int = 500
    """Steps over which the learning rate rises from zero."""

    clip: float | None = 1.0
    """Largest norm of the gradient; longer ones are shortened to it. None leaves all as they are."""

    map_drop: float = 0.1
    """Share of images whose map is hidden, so that guidance has an unconditional model (sdm)."""

    flip: float = 0.5
    """Share of images that are mirrored, left and right lung changing places."""

    average_decay: float = 0.9999
    """Decay of the moving average of the weights, which is what the model keeps."""

    precision: Precision = "float32"
    """What the networks compute in; bfloat16 is quicker on GPUs that have it. Weights are float32."""

    seed: int = 0
    """Decides every random number of the run."""

    workers: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Processes that share each batch; the result differs only by rounding."""

    pieces: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Pieces that a worker computes its share of a batch in, one after another: less memory, and the same
    result but for rounding (gradient accumulation)."""

    activation_checkpointing: bool = dataclasses.field(default=False, metadata=EXECUTION)
    """Compute activations a second time rather than keep them: much less memory, a third more time (sdm)."""

    compile: bool = dataclasses.field(default=False, metadata=EXECUTION)
    """Compile the network's blocks with torch.compile; the first steps take minutes (sdm)."""

    cpus_per_worker: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Cores, and so threads, of each worker."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION)
    """GPUs of each worker: 0 or 1."""

    checkpoint_every: int = dataclasses.field(default=1000, metadata=EXECUTION)
    """Steps between checkpoints: what a killed run loses at most."""

    keep: int = dataclasses.field(default=2, metadata=EXECUTION)
    """Newest checkpoints that are kept; one or two older ones stay, in case the loss has begun to rise."""

    preview_every: int = dataclasses.field(default=0, metadata=EXECUTION)
    """Steps between preview pictures, in OUT/previews and in TensorBoard; 0 for none."""

    max_failures: int = dataclasses.field(default=3, metadata=EXECUTION)
    """How often workers that die are replaced before the job gives up."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        # 4 and 4.0 are the same width: written alike, they are the same work.
        multipliers = tuple(int(value) if value % 1 == 0 else value for value in self.channel_multipliers)
        object.__setattr__(self, "channel_multipliers", multipliers)
        for name in ("batch", "steps", "workers", "pieces", "cpus_per_worker", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give at least 1")
        # The numbers of a step are of no use on another seed, and negative ones collide in other tools.
        for name in ("warm_up", "preview_every", "max_failures", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give 0 or more")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate is {self.learning_rate}; give a number above 0")
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise InputError(
                f"--clip is {self.clip}; give a number above 0, or None to leave gradients alone"
            )
        for name in ("map_drop", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give a share from 0 to 1")
        if not 0 <= self.average_decay < 1:
            raise InputError(
                f"--average-decay is {self.average_decay}; give at least 0 and below 1, such as 0.9999"
            )
        for name, choices in (("model", get_args(ModelName)), ("precision", get_args(Precision))):
            if getattr(self, name) not in choices:
                raise InputError(f"{_option(name)} is {getattr(self, name)!r}; choose {' or '.join(choices)}")
        if self.subsets is not None and not self.subsets:
            raise InputError("--subsets is empty; name at least one, or leave it out to train on all")
        if self.gpus_per_worker not in (0, 1):
            raise InputError(
                f"--gpus-per-worker is {self.gpus_per_worker}; a worker has 0 or 1 (raise --workers)"
            )
        if self.batch % (self.workers * self.pieces):
            pieces = f" in --pieces {self.pieces}" if self.pieces > 1 else ""
            raise InputError(
                f"--batch {self.batch} cannot be shared equally by --workers {self.workers}{pieces}; "
                f"give a multiple of {self.workers * self.pieces}"
            )
        if self.model == "gaugan":
            self._refuse_what_gaugan_lacks()
        if self.patch is not None:
            self.network(self.patch)

    def _refuse_what_gaugan_lacks(self) -> None:
        if self.map_drop:
            raise InputError(
                f"--map-drop is {self.map_drop}; gaugan draws from maps alone, so give --map-drop 0"
            )
        for name in ("activation_checkpointing", "compile"):
            if getattr(self, name):
                raise InputError(f"{_option(name)} is for --model sdm; leave it out")

    def network(self, size: int) -> UNetConfig | GauGANConfig:
        """The shape of the network for images of a size.

        Raises:
            InputError: No such network is possible.
        """
        if self.model == "gaugan":
            return GauGANConfig(
                image_size=size,
                classes=classes.COUNT,
                base_channels=self.base_channels,
                channel_multipliers=self.channel_multipliers,  # type: ignore[arg-type]  # checked there
                latent_channels=self.latent_channels,
                discriminator_channels=self.discriminator_channels,
            )
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

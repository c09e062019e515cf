"""What a training run is: the configuration."""

from dataclasses import dataclass, field
from typing import Any, Literal

from lungforge.config import (
    EXECUTION,
    LEFT_OUT_WHEN_OFF,
    NOT_EMPTY,
    above,
    at_least,
    between,
    check,
    group,
    option,
    options_below,
)
from lungforge.errors import InputError
from lungforge.models.average_profiles import LONGEST, SHORTEST, SNAPSHOT_LENGTHS
from lungforge.models.base import DataShape, LearnerOptions, ModelSpec, NetworkOptions
from lungforge.models.registry import load_generator
from services.train.trackers.base import TrackerName

_OPTIMISATION = group("Optimisation")


def _default_network() -> NetworkOptions:
    return load_generator("sdm").presets["luna256"].network


def _default_learner() -> LearnerOptions:
    return load_generator("sdm").presets["luna256"].learner


@dataclass(frozen=True)
class TrainConfig:
    """Train a generator on slices and maps."""

    data: str = field(metadata=EXECUTION)
    """The slices to train on, as `lungforge preprocess` made them; the images' size is the model's."""

    out: str = field(metadata=EXECUTION)
    """Where the model goes, and the checkpoints on the way; the same command again resumes from there."""

    subsets: tuple[int, ...] | None = field(default=None, metadata=NOT_EMPTY)
    """Subsets of LUNA16 to train on; all when not given."""

    model: str = "sdm"
    """The generator: sdm is the semantic diffusion model, gaugan the baseline (NoduleGAN); or one of another
    package. The options of its network and of its training follow from it."""

    network: NetworkOptions = field(default_factory=_default_network)
    """The network of the generator."""

    learner: LearnerOptions = field(default_factory=_default_learner)
    """The training of this generator only."""

    patch: int | None = field(default=None, metadata=_OPTIMISATION | at_least(1))
    """Train on patches of this many pixels, cut around nodules; whole slices when not given."""

    batch: int = field(default=4, metadata=_OPTIMISATION | at_least(1))
    """Images a step, over all workers; a multiple of the workers. The preset luna256 takes 4 for each worker;
    tiny and cpu take 8 in total, or the next multiple of the workers."""

    steps: int = field(default=80_000, metadata=_OPTIMISATION | at_least(1))
    """Steps of the optimiser."""

    learning_rate: float = field(default=1e-4, metadata=_OPTIMISATION | above(0))
    """Reached after the warm-up; gaugan's discriminator learns four times as fast."""

    warmup_steps: int = field(default=500, metadata=_OPTIMISATION | at_least(0))
    """Steps over which the learning rate rises from zero."""

    decay: float = field(default=0.0, metadata=_OPTIMISATION | between(0, 1))
    """Last share of the steps over which the learning rate falls to zero; 0 keeps it."""

    max_grad_norm: float | None = field(default=1.0, metadata=_OPTIMISATION | above(0))
    """Largest norm of the gradient; longer gradients are scaled down to it. None leaves all as they are."""

    flip: float = field(default=0.5, metadata=_OPTIMISATION | between(0, 1))
    """Share of images that are mirrored, left and right lung changing places."""

    ema_length: float = field(default=0.1, metadata=_OPTIMISATION | between(SHORTEST, LONGEST))
    """Length of the average of the weights that the model keeps, relative to the steps: 0.1 averages over
    the last fifth of them, mostly."""

    keep_averages: bool = field(default=False, metadata=_OPTIMISATION)
    """Keep snapshots of two averages with the model, from which `lungforge ema` makes one of another length;
    they take eight times the space of the weights."""

    precision: Literal["float32", "bfloat16"] = field(default="float32", metadata=_OPTIMISATION)
    """What the networks compute in; bfloat16 is quicker on GPUs that have it. Weights are float32."""

    compress_gradients: bool = field(default=False, metadata=_OPTIMISATION | LEFT_OUT_WHEN_OFF)
    """Workers exchange gradients in bfloat16: half the traffic, which counts between hosts. Each gradient is
    rounded by up to 0.2 %, and their sum again."""

    # A negative seed collides with another one in some random generators.
    seed: int = field(default=0, metadata=at_least(0))
    """Decides every random number of the run."""

    workers: int = field(default=1, metadata=EXECUTION | at_least(1))
    """Processes that share each batch; the result differs only by rounding."""

    gradient_accumulation: int = field(default=1, metadata=EXECUTION | at_least(1))
    """Micro-batches that a worker splits its share of a batch into: less memory, and the same result but for
    rounding."""

    cpus_per_worker: int = field(default=1, metadata=EXECUTION | at_least(1))
    """Cores, and so threads, of each worker."""

    gpus_per_worker: int = field(default=0, metadata=EXECUTION | between(0, 1))
    """GPUs of each worker: 0 or 1."""

    checkpoint_every: int = field(default=1000, metadata=EXECUTION | at_least(1))
    """Steps between checkpoints: what a killed run loses at most."""

    keep: int = field(default=2, metadata=EXECUTION | at_least(1))
    """Newest checkpoints that are kept; one or two older ones stay, in case the loss has begun to rise."""

    preview_every: int = field(default=0, metadata=EXECUTION | at_least(0))
    """Steps between preview pictures, in OUT/previews and in TensorBoard; 0 for none."""

    max_failures: int = field(default=3, metadata=EXECUTION | at_least(0))
    """How often workers that die are replaced before the job gives up."""

    log_to: tuple[TrackerName, ...] = field(default=(), metadata=EXECUTION)
    """Send metrics to mlflow, wandb or both, beside TensorBoard; without a server, files are kept in OUT."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        check(self)
        spec = self.spec
        for name, wanted in (("network", spec.network_options), ("learner", spec.learner_options)):
            if not isinstance(getattr(self, name), wanted):
                raise InputError(
                    f"{option(name)} is of another generator than {option('model')} {self.model}; "
                    f"take both from a preset of services.train.presets"
                )
        micro_batches = self.workers * self.gradient_accumulation
        if self.batch % micro_batches:
            accumulated = self.gradient_accumulation > 1
            detail = f" with {option('gradient_accumulation')} {self.gradient_accumulation}"
            raise InputError(
                f"--batch {self.batch} cannot be shared equally by --workers {self.workers}"
                f"{detail if accumulated else ''}; give a multiple of {micro_batches}"
            )
        if self.patch is not None:
            self.network_config(self.patch)

    @property
    def spec(self) -> ModelSpec[Any, Any]:
        """The generator.

        Raises:
            InputError: There is none of that name.
        """
        return load_generator(self.model)

    @property
    def average_lengths(self) -> tuple[float, ...]:
        """Relative lengths of the averages of the weights; the first is that of the model."""
        kept = SNAPSHOT_LENGTHS if self.keep_averages else ()
        return tuple(dict.fromkeys((self.ema_length, *kept)))

    def network_config(self, size: int) -> Any:
        """The network for images of a size.

        Raises:
            InputError: No such network is possible.
        """
        with options_below("network"):
            return self.spec.config(self.network, DataShape(image_size=size), self.learner)

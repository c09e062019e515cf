"""``lungforge ema``: a model with an average of another length, from the snapshots that were kept with it."""

import shlex
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from lungforge.config import EXECUTION, between, check
from lungforge.datasets import DatasetWriter, Kind
from lungforge.models.average_profiles import LONGEST_REBUILT, SHORTEST_REBUILT, combination
from lungforge.models.model_dataset import ModelDataset, read_history, write_model
from lungforge.models.posthoc import combine, read_snapshots
from services.common.config_file import keep_config
from services.common.progress import say


@dataclass(frozen=True)
class EmaConfig:
    """Make a model whose weights are averaged over another stretch of its training."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = field(metadata=EXECUTION)
    """A model that was trained with --keep-averages."""

    length: float = field(metadata=between(SHORTEST_REBUILT, LONGEST_REBUILT))
    """Length of the average, relative to the steps of the training, as for `lungforge train --ema-length`."""

    out: str = field(metadata=EXECUTION)
    """Where the new model goes."""

    def __post_init__(self) -> None:
        """Check the values."""
        check(self)


@dataclass(frozen=True)
class EmaResult:
    """The model that was made.

    Attributes:
        model: Its URI.
        length: Relative length of its average.
        profile_error: How far off its profile is, relative to that of an average of this length that was kept
            in training.
    """

    model: str
    length: float
    profile_error: float

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"lungforge sample --model {shlex.quote(self.model)} --data SLICES --out samples",)


def run(config: EmaConfig) -> EmaResult:
    """Make the model; one that is finished is left as it is.

    Raises:
        InputError: The model has no snapshots, or is damaged.
        AccessError: The store could not be read or written.
    """
    model = ModelDataset.open(config.model)
    trained = model.dataset.manifest
    # As the training with that length would have said, and the model beside the slices: evaluation asks a
    # model itself which scans it was trained on.
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.MODEL,
        config={**trained.config, "ema_length": config.length},
        seed=trained.seed,
        parents=(model.dataset.parent(), *trained.parents),
    )
    snapshots = read_snapshots(model.dataset)
    factors, error = combination(snapshots, config.length)
    if writer.find_manifest() is None:
        keep_config("ema", config, writer.uri)
        weights = combine(model.dataset, snapshots, factors.tolist())
        write_model(writer, model.spec, model.config, weights, model.details, read_history(model.dataset))
    else:
        say(f"{writer.uri} is finished already")
    return EmaResult(model=writer.uri, length=config.length, profile_error=round(error, 4))

"""A training run, ready to start: all that its workers need to know."""

from dataclasses import dataclass
from typing import Any

from lungforge.datasets import Dataset, DatasetWriter
from lungforge.datasets.slices import RowIndex, index_rows
from lungforge.errors import InputError
from lungforge.models.learner import Distribute, Learner
from lungforge.models.model_dataset import ModelDetails
from services.train.config import TrainConfig


@dataclass(frozen=True)
class TrainingRun:
    """Plain data: it goes to other processes as it is.

    Attributes:
        config: Of the job.
        network: The network, for the images of the data.
        index: The slices to train on.
        writer: Of the model.
    """

    config: TrainConfig
    network: Any
    index: RowIndex
    writer: DatasetWriter

    def make_learner(self, *, distribute: Distribute, averages: bool) -> Learner:
        """The learner of the run's generator, at its start; the arguments are those of ``ModelSpec``."""
        config = self.config
        return config.spec.learner(
            self.network, config.learner, config, distribute=distribute, averages=averages
        )

    def details(self) -> ModelDetails:
        """What the manifest of the model says."""
        config = self.config
        return ModelDetails(
            model=config.model,
            size=self.network.image_size,
            classes=self.network.classes,
            patch=config.patch,
            subsets=None if config.subsets is None else sorted(config.subsets),
            series_uids=list(self.index.series_uids),
            rows=len(self.index),
            steps=config.steps,
        )


def prepare(config: TrainConfig, data: Dataset, writer: DatasetWriter) -> TrainingRun:
    """Look up the rows to train on, and size the network for them.

    Raises:
        InputError: There are no rows, or no network of the configuration can take them.
    """
    index = index_rows(data, config.subsets)
    height, width = index.size
    remedy = "choose another size with `lungforge preprocess --size N`"
    if config.patch is not None:
        if config.patch > min(height, width):
            raise InputError(
                f"--patch is {config.patch} and the images are {height} x {width}; give a smaller patch"
            )
        size = config.patch
    elif height != width:
        raise InputError(f"{data.uri} holds images of {height} x {width} px, and models are square; {remedy}")
    else:
        size = height
    try:
        network = config.network_config(size)
    except InputError as error:
        raise InputError(
            f"no network for the images of {size} px in {data.uri}: {error}; or {remedy}"
        ) from None
    return TrainingRun(config, network, index, writer)

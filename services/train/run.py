"""A training run, ready to start: all that its workers need to know."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lungforge.config import identity
from lungforge.ct.window import hu_to_unit
from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.datasets.patches import cut_patch
from lungforge.datasets.slices import RowIndex, SliceRow, evenly, index_rows
from lungforge.errors import InputError
from lungforge.metrics.hu_gate import HuRanges
from lungforge.models.learner import Distribute, Learner
from lungforge.models.model_dataset import ModelDetails
from lungforge.randomness import numpy_generator
from services.train.config import TrainConfig
from services.train.trackers.base import Target, targets_of

#: Images that are measured before training, if there are so many: the mean of their pixels is known to 1 %.
_MEASURED_IMAGES: Final = 256


@dataclass(frozen=True)
class TrainingRun:
    """Plain data: it goes to other processes as it is.

    Attributes:
        config: Of the job.
        network: The network, for the images of the data.
        index: The slices to train on.
        writer: Of the model.
        hu_ranges: The medians of each class in the training images; None where they are too few.
        trackers: Where metrics go beside TensorBoard.
    """

    config: TrainConfig
    network: Any
    index: RowIndex
    writer: DatasetWriter
    hu_ranges: HuRanges | None
    trackers: tuple[Target, ...] = ()

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
            hu_ranges=None if self.hu_ranges is None else self.hu_ranges.to_json(),
        )


def model_writer(config: TrainConfig, data: Dataset) -> DatasetWriter:
    """The writer of the model of a run."""
    return DatasetWriter(
        uri=config.out, kind=Kind.MODEL, config=identity(config), seed=config.seed, parents=(data.parent(),)
    )


def prepare(config: TrainConfig, data: Dataset, writer: DatasetWriter) -> TrainingRun:
    """Look up the rows to train on, and size the network for them.

    Raises:
        InputError: There are no rows, no network of the configuration can take them, or a tracker lacks its
            package or a place for its files.
    """
    trackers = targets_of(config.log_to, writer.uri, writer.work, identity(config), config.steps)
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
    images = measured_images(index, config)
    hu = np.stack([image.image for image in images])
    network = config.spec.with_statistics(network, lambda: hu_to_unit(hu))
    ranges = HuRanges.measure(hu, np.stack([image.label for image in images]))
    return TrainingRun(config, network, index, writer, ranges, trackers)


def measured_images(index: RowIndex, config: TrainConfig) -> list[SliceRow]:
    """Training images to measure, spread evenly over the training set: patches where it is on patches."""
    chosen = evenly(len(index), _MEASURED_IMAGES)
    rows = index.read(chosen)
    if config.patch is None:
        return rows
    return [
        cut_patch(row, config.patch, numpy_generator(config.seed, "statistics", place))
        for row, place in zip(rows, chosen.tolist(), strict=True)
    ]

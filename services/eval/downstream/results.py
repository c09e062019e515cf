"""What the downstream tasks measure, as types, and what their measures are called."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from services.eval.downstream.froc_results import FrocResults
from services.eval.set_results import NotMeasured

Task = Literal["classification", "localisation"]
#: What an arm is compared with: the real slices alone, with classic augmentation, with copies of them beside.
Reference = Literal["real", "classic", "duplicates"]
REFERENCES: Final[tuple[Reference, ...]] = ("real", "classic", "duplicates")
REFERENCE_TITLES: Final[Mapping[Reference, str]] = {
    "real": "real",
    "classic": "real with classic augmentation",
    "duplicates": "copies of real",
}

#: Bands of nodule diameters, in mm: lower edge included, upper edge excluded.
BANDS_MM: Final = ((0.0, 6.0), (6.0, 10.0), (10.0, math.inf))
#: The measure that the verdict is about.
HEADLINE: Final[Mapping[Task, str]] = {"classification": "balanced_accuracy", "localisation": "ap50_nodule"}
#: What networks reach that learned nothing. Boxes at random, of the right size, have an AP50 of up to 0.04 in
#: patches of 32 px, and far less in larger pictures.
CHANCE: Final[Mapping[Task, Mapping[str, float]]] = {
    "classification": {"balanced_accuracy": 0.5, "auroc": 0.5},
    "localisation": {"ap50_nodule": 0.05},
}


def band_measure(low: float, high: float) -> str:
    """The name of AP50 over the nodules of a band of diameters, mm."""
    return f"ap50_{low:g}to{high:g}mm"


def band_title(low: float, high: float) -> str:
    """What a band of diameters, mm, is called in sentences and tables."""
    return f"{low:g} mm and more" if math.isinf(high) else f"{low:g} to {high:g} mm"


#: What measures are called in sentences and tables.
_TITLES: Final[Mapping[str, str]] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auroc": "AUROC",
    "ap50_nodule": "AP50 on pictures with a nodule",
    "ap50_all": "AP50 on all pictures",
    "ap_nodule": "AP50:95 on pictures with a nodule",
    "ar50_nodule": "recall at 20 boxes a picture",
    **{band_measure(*band): f"AP50, nodules of {band_title(*band)}" for band in BANDS_MM},
}


def measure_title(measure: str) -> str:
    """What a measure is called in sentences and tables."""
    return _TITLES[measure]


@dataclass(frozen=True)
class Difference:
    """The difference of an arm to another one, with its interval.

    The intervals of a measure, over all comparisons of a task, cover together with 95 %.

    Attributes:
        reference: The other arm.
        difference: None where the measure is undefined, or the networks of both arms do the same.
        low: Lower end of the interval; None without one.
        high: Upper end.
        draws: Draws of the bootstrap that count.
    """

    reference: Reference
    difference: float | None
    low: float | None
    high: float | None
    draws: int

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """Low end, difference and high end; None without an interval."""
        if self.difference is None or self.low is None or self.high is None:
            return None
        return self.low, self.difference, self.high

    @property
    def direction(self) -> int | None:
        """What the interval says: 1 above zero, -1 below, 0 neither; None without an interval."""
        if self.interval is None:
            return None
        low, _, high = self.interval
        return int(low > 0) - int(high < 0)


@dataclass(frozen=True)
class MeasureResult:
    """A measure of an arm.

    Attributes:
        measure: Its name.
        mean: Over the networks; None where it is undefined.
        spread: Standard deviation over the networks; None with one network.
        differences: To the references; empty of measures without an interval, and where nothing was learned.
    """

    measure: str
    mean: float | None
    spread: float | None
    differences: tuple[Difference, ...]

    def to(self, reference: Reference) -> Difference | None:
        """The difference to a reference; None where there is none."""
        return next((each for each in self.differences if each.reference == reference), None)


@dataclass(frozen=True)
class ArmCurve:
    """A curve of an arm, over the predictions of all its networks.

    Attributes:
        x: False positive rates (classification) or recalls (localisation).
        y: True positive rates, or precisions, one for each.
    """

    x: tuple[float | None, ...]
    y: tuple[float | None, ...]


@dataclass(frozen=True)
class ArmResult:
    """All results of an arm.

    Attributes:
        key: Its name in files.
        name: Its name for people.
        real: Whether real slices are in it.
        synthetic: Index of the set of synthetic slices in it; None of arms without.
        ratio: Pictures that are added, in units of the number of real ones.
        augmented: Whether pictures are changed at random before each step.
        training_pictures: How many pictures or crops its networks were trained on, each count once.
        chosen_steps: Of each network the step whose checkpoint is tested: the best on the validation scans.
        last_loss: Training loss, mean of the last tenth of the steps.
        measures: Its measures; the same ones in every arm of a task.
        curve: ROC curve, or precision over recall.
    """

    key: str
    name: str
    real: bool
    synthetic: int | None
    ratio: float
    augmented: bool
    training_pictures: tuple[int, ...]
    chosen_steps: tuple[int, ...]
    last_loss: float | None
    measures: tuple[MeasureResult, ...]
    curve: ArmCurve

    def measure(self, name: str) -> MeasureResult:
        """The measure of a name."""
        return next(each for each in self.measures if each.measure == name)


@dataclass(frozen=True)
class CropTestSet:
    """What classification is tested on."""

    crops: int
    nodules: int
    scans: int


@dataclass(frozen=True)
class DiameterBand:
    """Nodules of a band of diameters.

    Attributes:
        measure: The measure over these nodules.
        title: The band, for people.
        nodules: How many are in the test set.
    """

    measure: str
    title: str
    nodules: int


@dataclass(frozen=True)
class PictureTestSet:
    """What localisation is tested on."""

    pictures: int
    pictures_with_nodules: int
    nodules: int
    scans: int
    bands: tuple[DiameterBand, ...]


@dataclass(frozen=True)
class TaskResult:
    """All results of a task.

    Attributes:
        task: Which.
        network: What was trained, in words.
        headline: The measure that the verdict is about.
        networks_per_arm: Folds times seeds.
        steps: Optimiser steps of every network.
        validation_scans: Training scans that are held out to choose checkpoints, of each fold.
        draws: Draws of the bootstrap over the test scans.
        test: The test set.
        not_measured: Why no arm is compared with another; None where they are.
        arms: The arms; the first are the references, in the order of ``REFERENCES``.
    """

    task: Task
    network: str
    headline: str
    networks_per_arm: int
    steps: int
    validation_scans: tuple[int, ...]
    draws: int
    test: CropTestSet | PictureTestSet
    not_measured: NotMeasured | None
    arms: tuple[ArmResult, ...]


@dataclass(frozen=True)
class Answer:
    """Whether synthetic slices help in a task, by one arm.

    Attributes:
        task: The task.
        arm: The arm, with synthetic slices in it.
        synthetic: Index of the set.
        to_real: Difference in the headline measure to the real slices alone; None where it is not measured.
        to_classic: To the real slices with classic augmentation.
        to_duplicates: To copies of the real slices in place of the synthetic ones.
        not_measured: Why there are no differences; None where there are.
    """

    task: TaskResult
    arm: ArmResult
    synthetic: int
    to_real: Difference | None
    to_classic: Difference | None
    to_duplicates: Difference | None
    not_measured: NotMeasured | None

    @property
    def helps(self) -> int | None:
        """1: better than classic augmentation and than copies; -1: worse than the former; 0: neither.

        What only repeats real pictures is free, so that more than that is asked for. None: not known.
        """
        if self.to_classic is None or self.to_duplicates is None:
            return None
        classic, duplicates = self.to_classic.direction, self.to_duplicates.direction
        if classic is None or duplicates is None:
            return None
        return min(classic, max(duplicates, 0))


@dataclass(frozen=True)
class DownstreamResults:
    """All results of the downstream tasks.

    Attributes:
        preset: How large the networks are, and how long they are trained.
        train_subsets: Subsets of the real slices that they are trained on.
        folds: Into how many folds the scans are divided.
        seeds: Networks of each arm and fold.
        patch_px: Side of the patches; None for whole slices.
        tasks: The tasks.
        froc: Detection over whole scans; None where it was not asked for.
    """

    preset: str
    train_subsets: tuple[int, ...]
    folds: int
    seeds: int
    patch_px: int | None
    tasks: tuple[TaskResult, ...]
    froc: FrocResults | None = None

    def answers(self) -> Iterator[Answer]:
        """Of each task, the arms with synthetic slices, and what they are compared with."""
        for task in self.tasks:
            for arm in task.arms:
                if arm.synthetic is not None:
                    headline = arm.measure(task.headline)
                    yield Answer(
                        task=task,
                        arm=arm,
                        synthetic=arm.synthetic,
                        to_real=headline.to("real"),
                        to_classic=headline.to("classic"),
                        to_duplicates=headline.to("duplicates"),
                        not_measured=task.not_measured,
                    )

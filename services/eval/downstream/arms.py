"""The arms: what is added to the real slices, or takes their place. All arms train for as many steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.nodules import Box
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator
from services.eval.downstream.examples import Examples


@dataclass(frozen=True)
class Arm:
    """What one arm is trained on.

    Attributes:
        key: Its name in files.
        name: Its name for people.
        real: Whether the real slices are in it.
        ratio: Pictures that are added, in units of the number of real ones.
        synthetic: Index of the set of synthetic slices they are from; None for copies of the real ones.
        augment: Whether pictures are changed at random before each step.
    """

    key: str
    name: str
    real: bool = True
    ratio: float = 0.0
    synthetic: int | None = None
    augment: bool = False


@dataclass(frozen=True)
class Training:
    """What a network is trained on.

    Attributes:
        pictures: HU, int16 ``[N, H, W]``: pictures with nodules.
        boxes: Of those nodules.
        crops: HU, int16 ``[M, 32, 32]``.
        crop_is_nodule: bool ``[M]``.
    """

    pictures: NDArray[np.int16]
    boxes: tuple[tuple[Box, ...], ...]
    crops: NDArray[np.int16]
    crop_is_nodule: NDArray[np.bool_]


def all_arms(names: Sequence[str], ratios: Sequence[float]) -> tuple[Arm, ...]:
    """The control arms, each set of synthetic slices beside the real ones at each ratio, and each set alone.

    Args:
        names: Of the sets of synthetic slices.
        ratios: Synthetic pictures per real one.
    """
    most = max(ratios)
    arms = [
        Arm("real", "real"),
        Arm("classic", "real, classic augmentation", augment=True),
        Arm(f"duplicates-{most:g}x", f"real + {most:g} x copies of real", ratio=most),
    ]
    for index, name in enumerate(names):
        arms += [
            Arm(f"set{index}-{ratio:g}x", f"real + {ratio:g} x {name}", ratio=ratio, synthetic=index)
            for ratio in ratios
        ]
        arms.append(Arm(f"set{index}-only", f"{name} only", real=False, ratio=most, synthetic=index))
    return tuple(arms)


def require_enough(
    name: str,
    synthetic: Examples,
    real: Examples,
    ratios: Sequence[float],
    folds: Sequence[frozenset[str]],
) -> None:
    """Refuse a set that is too small for an arm in any fold: the arm would not be what its name says.

    Raises:
        InputError: It is.
    """
    for scans in folds:
        trained_on = len(_of_scans(real, scans))
        wanted = round(max(ratios) * trained_on)
        there = len(_of_scans(synthetic, scans))
        if there < wanted:
            learner = "a fold" if len(folds) > 1 else "each network"
            raise InputError(
                f"{name} has {there} slices of the scans that {learner} trains on, and the ratio "
                f"{max(ratios):g} to {trained_on} real ones asks for {wanted}; generate more "
                "with `lungforge sample`, or give smaller --ratios"
            )


def training_scans(scans: Sequence[str], folds: int, fold: int, seed: int) -> frozenset[str]:
    """The scans that a fold trains on: all but one in ``folds``, as the seed decides; with one fold all."""
    names = sorted(set(scans))
    if folds == 1:
        return frozenset(names)
    order = numpy_generator(seed, "folds", folds).permutation(len(names))
    return frozenset(names[index] for place, index in enumerate(order.tolist()) if place % folds != fold)


def compose(arm: Arm, real: Examples, added: Examples | None, scans: frozenset[str], seed: int) -> Training:
    """The training data of a run.

    Args:
        arm: The arm.
        real: The real slices.
        added: What the arm adds to them, or takes in their place; None when it adds nothing.
        scans: The scans of the fold.
        seed: Of the job: which of the added pictures are taken when there are more than enough.
    """
    in_fold = _of_scans(real, scans)
    sides = [(real, in_fold)] if arm.real else []
    if arm.ratio:
        assert added is not None, f"the arm {arm.key} adds pictures"
        available = _of_scans(added, scans)
        order = numpy_generator(seed, "added", arm.synthetic or 0).permutation(len(available))
        sides.append((added, np.sort(available[order[: round(arm.ratio * len(in_fold))]])))
    pictures, boxes, crops, kinds = [], [], [], []
    for examples, chosen in sides:
        shown = np.intersect1d(chosen, examples.with_nodules())
        pictures.append(examples.pictures[shown])
        boxes += [examples.boxes[index] for index in shown.tolist()]
        inside = np.isin(examples.crop_pictures, chosen)
        crops.append(examples.crops[inside])
        kinds.append(examples.crop_is_nodule[inside])
    return Training(np.concatenate(pictures), tuple(boxes), np.concatenate(crops), np.concatenate(kinds))


def _of_scans(examples: Examples, scans: frozenset[str]) -> NDArray[np.int64]:
    return np.flatnonzero([scan in scans for scan in examples.scans])

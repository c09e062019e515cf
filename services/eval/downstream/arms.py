"""The arms: what is added to the real slices, or takes their place. All arms train for as many steps.

Classic augmentation costs nothing, so it is in every arm but the first: the question is what synthetic slices
give beyond it, and arms that differ in their pictures alone can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.nodules import Box
from lungforge.randomness import numpy_generator
from services.eval.downstream.examples import Examples
from services.eval.downstream.results import REFERENCES

#: One in so many training scans validates, where there are no folds.
_VALIDATION_PARTS: Final = 5


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
    augment: bool = True


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


@dataclass(frozen=True)
class Split:
    """The scans that a network learns from, and those that choose its checkpoint."""

    training: frozenset[str]
    validation: frozenset[str]


def all_arms(names: Sequence[str], ratios: Sequence[float]) -> tuple[Arm, ...]:
    """The references, each set of synthetic slices beside the real ones at each ratio, and each set alone.

    Args:
        names: Of the sets of synthetic slices.
        ratios: Synthetic pictures per real one.
    """
    most = max(ratios)
    arms = [
        Arm("real", "real", augment=False),
        Arm("classic", "real, classic augmentation"),
        Arm(f"duplicates-{most:g}x", f"real + {most:g} x copies of real, classic augmentation", ratio=most),
    ]
    for index, name in enumerate(names):
        arms += [
            Arm(
                f"set{index}-{ratio:g}x",
                f"real + {ratio:g} x {name}, classic augmentation",
                ratio=ratio,
                synthetic=index,
            )
            for ratio in ratios
        ]
        alone = f"{name} only, classic augmentation"
        arms.append(Arm(f"set{index}-only", alone, real=False, ratio=most, synthetic=index))
    return tuple(arms)


def comparisons(arms: Sequence[Arm]) -> list[tuple[int, int]]:
    """Which arms are compared with which, by index: each with the references before it.

    The first arms of :func:`all_arms` are the references, in the order of ``REFERENCES``.
    """
    return [(arm, other) for arm in range(len(arms)) for other in range(min(arm, len(REFERENCES)))]


def split_scans(scans: Sequence[str], with_nodule: Sequence[bool], folds: int, fold: int, seed: int) -> Split:
    """Hold scans out of training for validation, the same for all arms.

    A part of the scans validates: one fold, or, with one fold, a fifth. Scans with and without a nodule are
    divided separately, so that both are on both sides.

    Args:
        scans: The scan of each picture.
        with_nodule: Whether the picture shows a nodule.
        folds: Into how many parts the scans are divided; 1 for no folds.
        fold: Which of them validates.
        seed: Of the job.
    """
    positive = {scan for scan, shown in zip(scans, with_nodule, strict=True) if shown}
    parts = folds if folds > 1 else min(_VALIDATION_PARTS, len(positive))
    validation: set[str] = set()
    for kind, names in (("nodule", positive), ("healthy", set(scans) - positive)):
        ordered = sorted(names)
        order = numpy_generator(seed, "validation", parts, kind).permutation(len(ordered)).tolist()
        validation.update(ordered[index] for place, index in enumerate(order) if place % parts == fold)
    return Split(frozenset(scans) - validation, frozenset(validation))


def compose(arm: Arm, real: Examples, added: Examples | None, scans: frozenset[str], seed: int) -> Training:
    """The training data of a run.

    Args:
        arm: The arm.
        real: The real slices.
        added: What the arm adds to them, or takes in their place; None when it adds nothing.
        scans: The scans to train on.
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

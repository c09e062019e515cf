"""What the downstream tasks refuse before anything is computed: plans that no result could come of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset
from lungforge.datasets.slices import RowIndex, index_rows
from lungforge.errors import InputError
from lungforge.metrics.leakage import find_leak
from services.eval.config import EvalConfig
from services.eval.downstream.arms import Split, split_scans
from services.eval.downstream.examples import CROP_PX, Examples

#: Fewer test scans with a nodule have no interval.
_LEAST_TEST_SCANS: Final = 2


def check_plan(config: EvalConfig, patch: int | None, real: Dataset, sets: Mapping[str, Dataset]) -> None:
    """Refuse what the small columns of the datasets show to be impossible.

    Args:
        config: The job's, with the subsets to train on.
        patch: Side of the generated patches, in px; None for whole slices.
        real: The real slices.
        sets: The sets of synthetic slices, by name.

    Raises:
        InputError: A scan is both trained on and tested on; training, validation or test would have no
            nodule; crops do not fit into the pictures; a set has too few slices, or none with a nodule.
    """
    training, test = index_rows(real, config.train_subsets), index_rows(real, config.subsets)
    leak = find_leak(test.series_uids, [], training.series_uids)
    if leak:
        raise InputError(
            f"{len(leak.training)} scans are in --train-subsets and in the test set, first "
            f"{leak.training[0]}; give subsets that have no scan in common"
        )
    _check_nodules(config, training, test)
    _check_crops(config, patch, training, test)
    scans = _scans(training)
    splits = splits_of(config, scans, training.nodules > 0)
    for name, dataset in sets.items():
        sources, with_nodule = _samples(dataset)
        _check_enough(config, name, sources, scans, splits)
        if "localisation" in config.tasks and not with_nodule.any():
            raise InputError(
                f"{name} shows no nodule, so a network cannot learn from it alone to locate them; "
                "give --tasks classification, or samples with nodules"
            )


def check_examples(
    config: EvalConfig, training: Examples, test: Examples, sets: Mapping[str, Examples]
) -> None:
    """Refuse classification where the crops that were cut are of one class only.

    Raises:
        InputError: They are.
    """
    if "classification" not in config.tasks:
        return
    sides = {"the test set": test}
    for split in splits_of(config, training.scans, [len(boxes) > 0 for boxes in training.boxes]):
        sides["the validation scans"] = training.of_scans(split.validation)
        sides["the training scans"] = training.of_scans(split.training)
        sides |= {name: examples.of_scans(split.training) for name, examples in sets.items()}
        for name, examples in sides.items():
            for wanted, words in ((True, "of a nodule"), (False, "without a nodule")):
                if not (examples.crop_is_nodule == wanted).any():
                    raise InputError(
                        f"{name}: there is no crop {words}, so crops cannot be told apart; "
                        "give more subsets or larger pictures, or --tasks localisation"
                    )


def splits_of(config: EvalConfig, scans: Sequence[str], with_nodule: Iterable[bool]) -> list[Split]:
    """The training and validation scans of each fold."""
    shown = list(with_nodule)
    return [split_scans(scans, shown, config.folds, fold, config.seed) for fold in range(config.folds)]


def _check_nodules(config: EvalConfig, training: RowIndex, test: RowIndex) -> None:
    scans = len(_scans_with_nodules(training))
    if not scans:
        raise InputError(
            f"{training.dataset.uri} shows no nodule in --train-subsets "
            f"{_words(config.train_subsets)}, so networks cannot learn from it; give others"
        )
    if config.folds > scans:
        raise InputError(
            f"--folds is {config.folds}, and {scans} scans of --train-subsets show a nodule; "
            f"give at most {scans}"
        )
    if scans < 2:
        raise InputError(
            "1 scan of --train-subsets shows a nodule, and scans are held out of training for validation; "
            "give more subsets"
        )
    tested = len(_scans_with_nodules(test))
    if tested < _LEAST_TEST_SCANS:
        raise InputError(
            f"{tested} scans of the test set show a nodule, and an interval needs at least "
            f"{_LEAST_TEST_SCANS}; give other --subsets"
        )


def _check_crops(config: EvalConfig, patch: int | None, training: RowIndex, test: RowIndex) -> None:
    if "classification" not in config.tasks:
        return
    side = min(training.size) if patch is None else patch
    pictures = "slices" if patch is None else "patches"
    if side < CROP_PX:
        raise InputError(
            f"classification is of crops of {CROP_PX} px, and the {pictures} have {side} px; "
            "give --tasks localisation, or larger pictures"
        )
    # A crop as large as the picture holds all of it. Patches without a nodule are cut for the test alone.
    if side == CROP_PX:
        for index, option in ((training, "--train-subsets"), *((test, "--subsets"),) * (patch is None)):
            if not (index.nodules == 0).any():
                raise InputError(
                    f"every slice of {option} shows a nodule, and {pictures} of {side} px have no room for a "
                    "crop beside it; give --tasks localisation, or larger pictures"
                )


def _check_enough(
    config: EvalConfig, name: str, sources: Sequence[str], scans: Sequence[str], splits: Sequence[Split]
) -> None:
    """An arm with fewer pictures than its ratio asks for would not be what its name says."""
    for split in splits:
        trained_on = sum(scan in split.training for scan in scans)
        wanted = round(max(config.ratios) * trained_on)
        there = sum(source in split.training for source in sources)
        if there < wanted:
            learner = "a fold" if len(splits) > 1 else "each network"
            raise InputError(
                f"{name} has {there} slices of the scans that {learner} trains on, and the ratio "
                f"{max(config.ratios):g} to {trained_on} real ones asks for {wanted}; generate more "
                "with `lungforge sample`, or give smaller --ratios"
            )


def _scans(index: RowIndex) -> list[str]:
    """The scan of each row."""
    names = [scan_of(series) for series in index.series_uids]
    return [names[number] for number in index.series.tolist()]


def _scans_with_nodules(index: RowIndex) -> set[str]:
    return {scan for scan, nodules in zip(_scans(index), index.nodules.tolist(), strict=True) if nodules}


def _samples(dataset: Dataset) -> tuple[list[str], NDArray[np.bool_]]:
    """The scan of each sample, and whether it shows a nodule."""
    scans: list[str] = []
    shown: list[bool] = []
    for part in dataset.parts:
        for batch in dataset.iter_batches(part, columns=["source_series_uid", "nodules"]):
            scans += map(scan_of, batch.column("source_series_uid").to_pylist())
            shown += pc.greater(pc.list_value_length(batch.column("nodules")), 0).to_pylist()
    return scans, np.asarray(shown, dtype=bool)


def _words(subsets: Sequence[int] | None) -> str:
    return " ".join(map(str, subsets or ()))

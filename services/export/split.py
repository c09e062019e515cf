"""Which rows are for training and which for validation: by patient, and never a synthetic one for validation.

A synthetic slice of a validation patient's map is left out: in training it would show what is to be found in
validation, and in validation it is no patient. Only where nothing is real, synthetic slices are split
themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lungforge.datasets import Dataset, Kind
from lungforge.errors import ContentError, InputError
from lungforge.metrics.leakage import EACH_SCAN, Patients
from lungforge.randomness import numpy_generator
from services.export.config import ExportConfig

TRAIN, VALIDATION = "train", "val"


@dataclass(frozen=True)
class Split:
    """The side of every patient.

    Attributes:
        patients: Which scans are of one patient.
        share: Share of the patients for validation; 0 where ``chosen`` says it.
        chosen: Patients for validation.
        any_real: Whether there are real slices.
        active: Whether there is a split at all.
    """

    patients: Patients = EACH_SCAN
    share: float = 0.0
    chosen: frozenset[str] = frozenset()
    any_real: bool = True
    active: bool = False

    def side_of(self, series_uid: str, *, synthetic: bool) -> str | None:
        """The side of a slice by its scan; None where it is left out, nothing where there is no split."""
        if not self.active:
            return ""
        if not self._validates(self.patients.patient_of(series_uid)):
            return TRAIN
        return None if synthetic and self.any_real else VALIDATION

    def _validates(self, patient: str) -> bool:
        # By the patient alone, so that it is on the same side of every export with the same share.
        return patient in self.chosen or (
            self.share > 0 and numpy_generator("validation patient", patient).random() < self.share
        )


def make_split(config: ExportConfig, datasets: Sequence[Dataset]) -> Split:
    """The split that the configuration asks for.

    Raises:
        InputError: The datasets have none of the subsets.
        ContentError: A dataset is damaged.
        AccessError: It cannot be read now.
    """
    if not config.splits:
        return Split()
    patients = Patients.of([group for dataset in datasets for group in _groups(dataset)])
    chosen: frozenset[str] = frozenset()
    if config.validation_subsets:
        subsets = [_subsets(dataset) for dataset in datasets]
        chosen = frozenset(
            patients.patient_of(series)
            for some in subsets
            for series, subset in some.items()
            if subset in config.validation_subsets
        )
        if not chosen:
            there = sorted({subset for some in subsets for subset in some.values()})
            raise InputError(
                f"--validation-subsets is {' '.join(map(str, config.validation_subsets))}; the data have "
                f"{', '.join(map(str, there))} (-1: none): name one of them, or give --validation-share"
            )
    any_real = any(dataset.manifest.kind is not Kind.SAMPLES for dataset in datasets)
    return Split(patients, config.validation_share, chosen, any_real, active=True)


def _groups(dataset: Dataset) -> list[list[str]]:
    """Scans of one patient each, where the manifest knows."""
    details = dataset.manifest.details.get("patients")
    if details is None:
        return []
    try:
        return [[str(series) for series in group] for group in details["scans_of_one_patient"] if group]
    except (TypeError, KeyError) as error:
        raise ContentError(
            f"{dataset.uri}: the patients in its manifest are damaged; make the dataset again"
        ) from error


def _subsets(dataset: Dataset) -> dict[str, int]:
    """The subset of every scan."""
    name = "source_series_uid" if dataset.manifest.kind is Kind.SAMPLES else "series_uid"
    subsets: dict[str, int] = {}
    for part in dataset.parts:
        for table in dataset.iter_batches(part, columns=[name, "subset"]):
            subsets |= dict(zip(table[name].to_pylist(), table["subset"].to_pylist(), strict=True))
    return subsets

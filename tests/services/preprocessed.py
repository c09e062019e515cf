"""Preprocessing in the tests' own process, without Ray."""

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind
from services.preprocess.config import PreprocessConfig
from services.preprocess.survey import survey
from services.preprocess.volume import VolumeTask


def preprocess_here(config: PreprocessConfig) -> Dataset:
    """The slices of a source, one volume after another."""
    writers = [
        DatasetWriter(f"{config.out}/{name}", kind, identity(config))
        for name, kind in (("slices", Kind.SLICES), ("crops", Kind.CROPS))
    ]
    task = VolumeTask(config, *writers)
    parts = [task(volume).slices for volume in survey(config).volumes]
    writers[0].commit([part for part in parts if part is not None])
    return Dataset.open(f"{config.out}/slices")

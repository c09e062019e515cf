"""Whether test scans were used: to train the generator, or as the source of a synthetic slice."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Leak:
    """The test scans that were used.

    Attributes:
        sources: Test scans that synthetic slices were generated from, sorted.
        training: Test scans that the generator was trained on, sorted.
    """

    sources: tuple[str, ...]
    training: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.sources or self.training)


def scan_of(series_uid: str) -> str:
    """The scan behind a series id: collections of single slices name them ``<series>_z<slice>``."""
    return re.sub(r"_z\d+$", "", series_uid)


def find_leak(test: Iterable[str], sources: Iterable[str], training: Iterable[str]) -> Leak:
    """The leak between the series ids of the test set, of the synthetic slices' sources, and of training."""
    tested = {scan_of(series) for series in test}
    return Leak(
        sources=tuple(sorted(tested & {scan_of(series) for series in sources})),
        training=tuple(sorted(tested & {scan_of(series) for series in training})),
    )

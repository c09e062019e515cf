"""The tables that a detector is scored with: its candidates, the excluded findings, the scans."""

from dataclasses import dataclass

from lungforge.ct.io.csv_tables import finding_rows
from lungforge.ct.io.luna16_tables import Annotation

UNSIZED_DIAMETER_MM = 10.0
"""Of excluded findings whose table has no size: of what is no nodule, readers marked a point only."""


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A place where a detector suspects a nodule."""

    series_uid: str
    x_mm: float
    y_mm: float
    z_mm: float
    """The place, a world point in mm."""
    probability: float
    """How sure the detector is: any finite number, of which only the order counts."""

    @property
    def point_mm(self) -> tuple[float, float, float]:
        """The place as a world point."""
        return self.x_mm, self.y_mm, self.z_mm


def read_scored_candidates(uri: str) -> list[ScoredCandidate]:
    """Read a table with the columns seriesuid, coordX, coordY, coordZ, probability; others are ignored.

    Rows that repeat an earlier one are kept: each is a candidate.

    Args:
        uri: As for :func:`lungforge.ct.io.csv_tables.finding_rows`, which says what is raised.

    Returns:
        The candidates, in the order of the file.
    """
    return [
        ScoredCandidate(uid, x, y, z, probability)
        for _, uid, x, y, z, probability in finding_rows(uri, "probability")
    ]


def read_excluded(uri: str) -> list[Annotation]:
    """Read annotations_excluded.csv: seriesuid, coordX, coordY, coordZ, diameter_mm; others are ignored.

    Args:
        uri: As for :func:`lungforge.ct.io.csv_tables.finding_rows`, which says what is raised.

    Returns:
        The findings, in the order of the file; those without a positive diameter (LUNA16 writes -1) with
        ``UNSIZED_DIAMETER_MM``.
    """
    return [
        Annotation(uid, x, y, z, diameter if diameter > 0 else UNSIZED_DIAMETER_MM)
        for _, uid, x, y, z, diameter in finding_rows(uri, "diameter_mm")
    ]

"""The tables of LUNA16: annotations.csv (nodules) and candidates_V2.csv (candidate nodules)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from lungforge.ct.geometry import Geometry
from lungforge.ct.io.csv_tables import finding_rows
from lungforge.errors import ContentError

_LARGEST_DIAMETER_MM = 300
"""No nodule is wider than a chest: such a number is of another unit."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A nodule that the readers agreed on: a row of annotations.csv."""

    series_uid: str
    x_mm: float
    y_mm: float
    z_mm: float
    """The centre, a world point (LPS) in mm."""
    diameter_mm: float

    @property
    def point_mm(self) -> tuple[float, float, float]:
        """The centre as a world point."""
        return self.x_mm, self.y_mm, self.z_mm


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate that a detector proposed: a row of candidates_V2.csv."""

    series_uid: str
    x_mm: float
    y_mm: float
    z_mm: float
    """The centre, a world point (LPS) in mm."""
    label: int
    """1 when it is a nodule, else 0."""

    @property
    def point_mm(self) -> tuple[float, float, float]:
        """The centre as a world point."""
        return self.x_mm, self.y_mm, self.z_mm


Finding = TypeVar("Finding", Annotation, Candidate)


class Findings(dict[str, list[Finding]]):
    """Series uid to its findings, in the order of the table."""

    doubled: int = 0
    """Rows of the table that repeat an earlier one; what they say is here once."""


def outside_reason(finding: Annotation | Candidate, geometry: Geometry) -> str:
    """The line that says where a finding lies that is not in its volume."""
    index = geometry.world_to_index(finding.point_mm)
    place = f"{_words(finding.point_mm)} mm lies outside"
    voxel = f"voxel {_words(index.tolist())} of {_words(geometry.size)}"
    if isinstance(finding, Annotation):
        return f"an annotation of {finding.series_uid} at {place} its volume: {voxel}"
    return f"the candidate at {place} the volume: {voxel}"


def read_annotations(uri: str) -> Findings[Annotation]:
    """Read a table with the columns seriesuid, coordX, coordY, coordZ, diameter_mm; others are ignored.

    Spaces around names and values do not count, nor do rows without a value, rows that repeat an earlier one,
    and the ending ``.mhd`` of a uid.

    Args:
        uri: The file, a local path or any URI that fsspec opens: UTF-8, or UTF-16 with a byte order mark;
            other encodings of ASCII may stand in columns that are ignored.

    Returns:
        Series uid to its nodules, in the order of the file.

    Raises:
        ContentError: A column is missing, or a value is not a finite number or not the diameter of a nodule;
            the message names the file, the line and the column. Or rows contradict each other.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    annotations: Findings[Annotation] = Findings()
    for line, series_uid, x, y, z, diameter in finding_rows(uri, "diameter_mm"):
        if not 0 < diameter <= _LARGEST_DIAMETER_MM:
            raise ContentError(
                f"{uri}, line {line}: diameter_mm is {diameter:g}; a diameter is positive, "
                f"and at most {_LARGEST_DIAMETER_MM} mm"
            )
        annotations.setdefault(series_uid, []).append(Annotation(series_uid, x, y, z, diameter))
    return _each_once(uri, annotations)


def read_candidates(uri: str) -> Findings[Candidate]:
    """Read a table with the columns seriesuid, coordX, coordY, coordZ, class; others are ignored.

    Args:
        uri: As for ``read_annotations``.

    Returns:
        Series uid to its candidates, in the order of the file.

    Raises:
        ContentError: A column is missing, a value is not a finite number, or a class is neither 0 nor 1;
            the message names the file, the line and the column. Or rows contradict each other.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    candidates: Findings[Candidate] = Findings()
    for line, series_uid, x, y, z, label in finding_rows(uri, "class"):
        if label not in (0, 1):
            raise ContentError(f"{uri}, line {line}: class is {label:g}; it must be 0 or 1")
        candidates.setdefault(series_uid, []).append(Candidate(series_uid, x, y, z, int(label)))
    return _each_once(uri, candidates)


def _each_once(uri: str, findings: Findings[Finding]) -> Findings[Finding]:
    """Each finding once; two that differ at one point contradict each other."""
    for series_uid, rows in findings.items():
        once = findings[series_uid] = list(dict.fromkeys(rows))
        findings.doubled += len(rows) - len(once)
        if len({finding.point_mm for finding in once}) < len(once):
            points = Counter(finding.point_mm for finding in once)
            raise ContentError(
                f"{uri}: rows of {series_uid} contradict each other at "
                f"{_words(points.most_common(1)[0][0])} mm; leave one"
            )
    return findings


def _words(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"

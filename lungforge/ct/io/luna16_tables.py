"""The tables of LUNA16: annotations.csv (nodules) and candidates_V2.csv (candidate nodules)."""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lungforge.ct.geometry import Geometry
from lungforge.errors import ContentError, InputError
from lungforge.storage.reading import read_file

_PLACE = ("seriesuid", "coordX", "coordY", "coordZ")


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


def outside_reason(finding: Annotation | Candidate, geometry: Geometry) -> str:
    """The line that says where a finding lies that is not in its volume."""
    index = geometry.world_to_index(finding.point_mm)
    return (
        f"the {type(finding).__name__.lower()} at {_words(finding.point_mm)} mm lies outside the volume: "
        f"voxel {_words(index.tolist())} of {_words(geometry.size)}"
    )


def read_annotations(uri: str) -> dict[str, list[Annotation]]:
    """Read a table with the columns seriesuid, coordX, coordY, coordZ, diameter_mm; others are ignored.

    Args:
        uri: The file, a local path or any URI that fsspec opens.

    Returns:
        Series uid to its nodules, in the order of the file.

    Raises:
        ContentError: A column is missing, or a value is not a finite number or not a positive diameter; the
            message names the file and the line.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    annotations: dict[str, list[Annotation]] = {}
    for line, series_uid, x, y, z, diameter in _rows(uri, "diameter_mm"):
        if diameter <= 0:
            raise ContentError(f"{uri}, line {line}: diameter_mm is {diameter:g}; a diameter is positive")
        annotations.setdefault(series_uid, []).append(Annotation(series_uid, x, y, z, diameter))
    return annotations


def read_candidates(uri: str) -> dict[str, list[Candidate]]:
    """Read a table with the columns seriesuid, coordX, coordY, coordZ, class; others are ignored.

    Args:
        uri: The file, a local path or any URI that fsspec opens.

    Returns:
        Series uid to its candidates, in the order of the file.

    Raises:
        ContentError: A column is missing, a value is not a finite number, or a class is neither 0 nor 1;
            the message names the file and the line.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    candidates: dict[str, list[Candidate]] = {}
    for line, series_uid, x, y, z, label in _rows(uri, "class"):
        if label not in (0, 1):
            raise ContentError(f"{uri}, line {line}: class is {label:g}; it must be 0 or 1")
        candidates.setdefault(series_uid, []).append(Candidate(series_uid, x, y, z, int(label)))
    return candidates


def _rows(uri: str, value: str) -> Iterator[tuple[int, str, float, float, float, float]]:
    """The rows of a table: line, series uid, x, y, z, and the column ``value``."""
    names = (*_PLACE, value)
    try:
        data = read_file(uri)
    except FileNotFoundError:
        raise InputError(f"{uri}: there is no such file") from None
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in names if name not in header]
        if missing:
            raise ContentError(
                f"{uri}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}, "
                f"and needs {', '.join(names)}"
            )
        uid, column_x, column_y, column_z, column_value = (header.index(name) for name in names)
        uids: dict[str, str] = {}  # one string a series, not one a row: the table has 755,000 rows
        for fields in reader:
            if not fields:
                continue
            try:
                x, y, z = float(fields[column_x]), float(fields[column_y]), float(fields[column_z])
                last, series_uid = float(fields[column_value]), fields[uid]
            except (ValueError, IndexError):
                raise ContentError(_what_is_wrong(uri, reader.line_num, header, fields, names)) from None
            if not (series_uid and math.isfinite(x + y + z + last)):
                raise ContentError(_what_is_wrong(uri, reader.line_num, header, fields, names))
            yield reader.line_num, uids.setdefault(series_uid, series_uid), x, y, z, last
    except (UnicodeDecodeError, csv.Error) as error:
        raise ContentError(f"{uri}: not a table of comma-separated values ({error})") from None


def _what_is_wrong(uri: str, line: int, header: list[str], fields: list[str], names: tuple[str, ...]) -> str:
    if len(fields) < len(header):
        return f"{uri}, line {line}: {len(fields)} fields where the header has {len(header)}"
    values = {name: fields[header.index(name)] for name in names}
    if not values["seriesuid"]:
        return f"{uri}, line {line}: seriesuid is empty"
    wrong = [f"{name} is {values[name]!r}" for name in names[1:] if not _is_number(values[name])]
    return f"{uri}, line {line}: {', '.join(wrong)}; it must be a finite number"


def _words(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

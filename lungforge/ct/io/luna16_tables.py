"""The tables of LUNA16: annotations.csv (nodules) and candidates_V2.csv (candidate nodules)."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from lungforge.ct.geometry import Geometry
from lungforge.errors import ContentError, InputError
from lungforge.storage.reading import read_file

_PLACE = ("seriesuid", "coordX", "coordY", "coordZ")
_LARGEST_NUMBER = 1e9
"""Above all mm; and NaN is not below it."""
_LARGEST_DIAMETER_MM = 300
"""No nodule is wider than a chest: such a number is of another unit."""
_UNSEEN = " \t\r\n\v\f\u00a0\u200b\u2060\ufeff"
"""White space, and the marks without width that spreadsheets and editors leave around values."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, and the encodings that they tell; the longer ones first."""


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
    for line, series_uid, x, y, z, diameter in _rows(uri, "diameter_mm"):
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
    for line, series_uid, x, y, z, label in _rows(uri, "class"):
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


def table_rows(uri: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table as they are, the header first: the number of the last line of each, and its fields.

    Raises:
        ContentError: It is not a table.
        InputError: There is no such file.
        AccessError: It cannot be read now.
    """
    return _decoded_rows(uri)[1]


def _decoded_rows(uri: str) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """The encoding of a table, and its rows."""
    try:
        data = read_file(uri)
    except FileNotFoundError:
        raise InputError(f"{uri}: there is no such file") from None
    encoding, data = _encoding(uri, data)
    return encoding, _records(uri, io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=""))


def _rows(uri: str, value: str) -> Iterator[tuple[int, str, float, float, float, float]]:
    """The rows of a table: line, series uid, x, y, z, and the column ``value``."""
    names = (*_PLACE, value)
    encoding, records = _decoded_rows(uri)
    header = _header(uri, next(records, (1, []))[1], names)
    uid, *numbers = (header.index(name) for name in names)
    uids: dict[str, str] = {}  # one string a series, not one a row: the table has 755,000 rows
    for line, fields in records:
        try:
            x, y, z, last = (float(fields[column]) for column in numbers)
            written = fields[uid]
        except (ValueError, IndexError):
            if not any(map(_bare, fields)):
                continue
            raise ContentError(_what_is_wrong(uri, line, header, fields, names)) from None
        if written not in uids:
            uids[written] = series_uid_of(written)
            # Another encoding than UTF-8 is a guess, and a uid must be right.
            if encoding == "latin-1" and not written.isascii():
                raise ContentError(f"{uri}, line {line}: seriesuid is {written!r}; save the table as UTF-8")
        # Python reads 1_0 as 10.
        sound = abs(x) + abs(y) + abs(z) + abs(last) < _LARGEST_NUMBER and not any(
            "_" in fields[column] for column in numbers
        )
        if not (sound and uids[written]) or any(map(_bare, fields[len(header) :])):
            raise ContentError(_what_is_wrong(uri, line, header, fields, names))
        yield line, uids[written], x, y, z, last


def _encoding(uri: str, data: bytes) -> tuple[str, bytes]:
    """How a table is to be decoded, and its bytes without a mark that this encoding does not know."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding, data
    if b"\0" in data:
        raise ContentError(
            f"{uri}: not a table of comma-separated values (it has zero bytes, as a binary file has, "
            "or UTF-16 without a byte order mark); save it as UTF-8"
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        data.decode()
    except UnicodeDecodeError:
        return "latin-1", data
    return "utf-8", data


def _records(uri: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, each with the number of its last line; without lines that are empty.

    Raises:
        ContentError: A quotation mark is not closed, so that it would swallow the rows that follow.
    """
    taken: list[str] = []

    def take() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(take(), skipinitialspace=True)
    try:
        for fields in reader:
            if len(taken) > 1:
                list(csv.reader(taken, skipinitialspace=True, strict=True))
            taken.clear()
            if fields:
                yield reader.line_num, fields
    except (UnicodeDecodeError, csv.Error) as error:
        line = reader.line_num - len(taken) + 1
        raise ContentError(f"{uri}, line {line}: not a table of comma-separated values ({error})") from None


def _header(uri: str, fields: list[str], names: tuple[str, ...]) -> list[str]:
    """The names of the columns; those without one at the end are left away."""
    header = [_bare(name) for name in fields]
    while header and not header[-1]:
        header.pop()
    missing = [name for name in names if name not in header]
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if missing and separator in "".join(fields):
            raise ContentError(f"{uri}: its values are separated by {word}; save it with commas between them")
    if missing:
        raise ContentError(
            f"{uri}: no column {', '.join(missing)}; it has {', '.join(header)[:200] or 'none'}, "
            f"and needs {', '.join(names)}"
        )
    for name in names:
        if header.count(name) > 1:
            raise ContentError(f"{uri}: {header.count(name)} columns are named {name}; leave one")
    return header


def _what_is_wrong(uri: str, line: int, header: list[str], fields: list[str], names: tuple[str, ...]) -> str:
    place = f"{uri}, line {line}"
    if len(fields) < len(header):
        return f"{place}: {len(fields)} fields where the header has {len(header)}"
    if any(map(_bare, fields[len(header) :])):
        return (
            f"{place}: {len(fields)} fields where the header has {len(header)}; write decimals with a point"
        )
    values = {name: fields[header.index(name)] for name in names}
    if not series_uid_of(values["seriesuid"]):
        return f"{place}: seriesuid is empty"
    wrong = [f"{name} is {values[name]!r}" for name in names[1:] if not _is_number(values[name])]
    point = " with a decimal point" if any("," in values[name] for name in names[1:]) else ""
    return f"{place}: {', '.join(wrong)}; it must be a finite number{point}"


def _bare(text: str) -> str:
    return text.strip(_UNSEEN)


def series_uid_of(text: str) -> str:
    """The uid in a table's column, which may be the file name of the scan's header."""
    uid = _bare(text)
    return uid[:-4] if uid.lower().endswith((".mhd", ".mha")) else uid


def _words(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _is_number(text: str) -> bool:
    try:
        # A quarter: of four numbers whose sum is too large, one is.
        return "_" not in text and abs(float(text)) < _LARGEST_NUMBER / 4
    except ValueError:
        return False

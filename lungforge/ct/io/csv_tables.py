"""Tables of comma-separated values as spreadsheets save them, with marks, spaces and empty rows."""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator

from lungforge.errors import ContentError, InputError
from lungforge.storage.reading import read_file

_SERIES = "seriesuid"
_PLACE = (_SERIES, "coordX", "coordY", "coordZ")
_LARGEST_NUMBER = 1e9
"""Above all mm; and NaN is not below it."""
_UNSEEN = " \t\r\n\v\f\u00a0\u200b\u2060\ufeff"
"""White space, and the marks without width that spreadsheets and editors leave around values."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, and the encodings that they tell; the longer ones first."""


def finding_rows(uri: str, value: str) -> Iterator[tuple[int, str, float, float, float, float]]:
    """The rows of a table of points: line, series uid, x, y, z (world mm), and the column ``value``.

    Spaces around names and values do not count, nor do rows without a value and the ending ``.mhd`` of a uid;
    other columns are ignored.

    Args:
        uri: The file, a local path or any URI that fsspec opens: UTF-8, or UTF-16 with a byte order mark;
            other encodings of ASCII may stand in columns that are ignored.
        value: A column of numbers beside seriesuid, coordX, coordY and coordZ.

    Raises:
        ContentError: A column is missing, or a value is not a finite number; names the line and the column.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    names = (*_PLACE, value)
    encoding, records = _open(uri)
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


def listed_series(uri: str) -> list[str]:
    """The series uids of a table, in its order: the column seriesuid, or the only column where none is named.

    Args:
        uri: As for :func:`finding_rows`; a uid may end in ``.mhd``.

    Raises:
        ContentError: There are several columns and none is named seriesuid, or a uid is missing.
        InputError: There is no such file.
        AccessError: The file cannot be read now.
    """
    _, records = _open(uri)
    rows = [(line, fields) for line, fields in records if any(map(_bare, fields))]
    column = 0
    if rows and (len(rows[0][1]) > 1 or _bare(rows[0][1][0]) == _SERIES):
        column = _header(uri, rows.pop(0)[1], (_SERIES,)).index(_SERIES)
    uids = []
    for line, fields in rows:
        uid = series_uid_of(fields[column]) if column < len(fields) else ""
        if not uid:
            raise ContentError(f"{uri}, line {line}: seriesuid is empty")
        uids.append(uid)
    return uids


def table_rows(uri: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table as they are, the header first: the number of the last line of each, and its fields.

    Raises:
        ContentError: It is not a table.
        InputError: There is no such file.
        AccessError: It cannot be read now.
    """
    return _open(uri)[1]


def _open(uri: str) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """The encoding of a table, and its rows as :func:`_records` gives them."""
    try:
        data = read_file(uri)
    except FileNotFoundError:
        raise InputError(f"{uri}: there is no such file") from None
    encoding, data = _encoding(uri, data)
    return encoding, _records(uri, io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline=""))


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


def _is_number(text: str) -> bool:
    try:
        # A quarter: of four numbers whose sum is too large, one is.
        return "_" not in text and abs(float(text)) < _LARGEST_NUMBER / 4
    except ValueError:
        return False

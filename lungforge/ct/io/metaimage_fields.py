"""The text of a MetaImage header: ``Name = value`` a line, up to ``ElementDataFile``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lungforge.ct.geometry import VolumeError

_SEPARATOR = re.compile("[=:]")
_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
_PATTERN = re.compile(
    r"(?P<name>[^%]*%0?\d{0,3}[diu][^%]*?)\s+(?P<first>\d+)\s+(?P<last>\d+)\s+(?P<step>\d+)"
)
_MOST_FILES = 65536
_LONGEST_NAME = 255
"""Bytes that a file system allows."""


@dataclass(frozen=True)
class Fields:
    """The fields of a header."""

    texts: dict[str, str]
    """Each value as it is written; of a field that is there twice the last, as ITK takes it."""
    header_bytes: int
    """How many bytes the header takes."""
    lines_after: tuple[str, ...]
    """The lines after the last field: file names if that is ``ElementDataFile = LIST``."""

    @classmethod
    def parse(cls, data: bytes) -> "Fields | None":
        """Read a header.

        Args:
            data: The file from its start.

        Returns:
            None if the header does not end within the data.

        Raises:
            VolumeError: It is no header.
        """
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise VolumeError("its header cannot be read: it is UTF-16 text; save it as UTF-8")
        position = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        texts: dict[str, str] = {}
        while "ElementDataFile" not in texts:
            if position >= len(data):
                return None
            end = data.find(b"\n", position)
            end = len(data) if end < 0 else end
            line = _decoded(data[position:end])
            separator = _SEPARATOR.search(line)
            if line and separator is None:
                words = (
                    f"its line {line[:40]!r} is not 'Name = value'"
                    if line.isprintable()
                    else "it is not text"
                )
                raise VolumeError(f"its header cannot be read: {words}")
            if separator is not None:
                texts[line[: separator.start()].strip()] = line[separator.end() :].strip()
            position = end + 1
        after: tuple[str, ...] = ()
        if is_list(texts["ElementDataFile"]):
            after = tuple(filter(None, map(_decoded, data[position:].split(b"\n"))))
        return cls(texts, position, after)

    def text(self, names: Sequence[str]) -> str | None:
        """The value of the field that has one of these names.

        Raises:
            VolumeError: Several have, and they differ.
        """
        given = {name: self.texts[name] for name in names if name in self.texts}
        if len({" ".join(text.split()) for text in given.values()}) > 1:
            stated = ", ".join(f"{name} = {text}" for name, text in given.items())
            raise VolumeError(f"its header contradicts itself: {stated}")
        return next(iter(given.values()), None)

    def floats(
        self, names: Sequence[str], count: int, default: tuple[float, ...] | None = None
    ) -> tuple[float, ...]:
        """So many numbers, of the field that has one of these names."""
        text = self.text(names)
        if text is None:
            if default is None:
                raise VolumeError(f"its header has no {names[0]}")
            return default
        try:
            values = tuple(float(word) for word in text.split())
        except ValueError as error:
            raise VolumeError(f"its header has {names[0]} = {text}, which are not numbers") from error
        if len(values) != count:
            raise VolumeError(f"its header has {len(values)} values in {names[0]}; {count} are needed")
        return values

    def integers(self, name: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """So many whole numbers."""
        values = self.floats((name,), count, None if default is None else (float(default),) * count)
        if not all(value.is_integer() for value in values):
            raise VolumeError(f"its header has {name} = {self.texts[name]}, which must be whole numbers")
        return tuple(int(value) for value in values)

    def flag(self, names: Sequence[str], *, default: bool) -> bool:
        """Whether the field that has one of these names says yes."""
        values = set()
        for name in names:
            word = self.texts.get(name)
            if word is not None and word.lower() not in _TRUE + _FALSE:
                raise VolumeError(f"its header has {name} = {word}, which is neither True nor False")
            if word is not None:
                values.add(word.lower() in _TRUE)
        if len(values) > 1:
            raise VolumeError(f"its header contradicts itself: {' and '.join(names)} differ")
        return values.pop() if values else default

    def voxel_files(self, slices: int) -> tuple[str, ...]:
        """The names of the files that hold the voxels: one for all or one a slice; none if this file does.

        Args:
            slices: The slices of the volume.
        """
        text = self.texts["ElementDataFile"]
        if text.upper() == "LOCAL":
            return ()
        if is_list(text):
            if text.split()[1:] not in ([], ["2"], ["2D"]):
                raise VolumeError(
                    f"its ElementDataFile = {text} is not supported; LIST with a file a slice is"
                )
            names = self.lines_after
        elif pattern := _PATTERN.fullmatch(text):
            first, last, step = (int(pattern[key]) for key in ("first", "last", "step"))
            numbers = range(first, last + 1, max(step, 1))[:_MOST_FILES]
            names = tuple(pattern["name"] % number for number in numbers)
        else:
            return (_beside(text),)
        if len(names) != slices:
            raise VolumeError(f"its ElementDataFile names {len(names)} files; it has {slices} slices")
        return tuple(map(_beside, names))


def is_list(text: str) -> bool:
    """Whether the value of ElementDataFile says that the names of the files follow."""
    return text.split()[:1] == ["LIST"]


def _beside(name: str) -> str:
    """A file name, relative to the header's folder."""
    parts = [part for part in name.split("/") if part != "."]
    # A header must not choose which other files of this machine are read.
    outside = not all(parts) or not parts or ".." in parts or ":" in parts[0]
    if outside or "\\" in name or "\0" in name or len(name.encode()) > _LONGEST_NAME:
        raise VolumeError(f"its ElementDataFile {name[:80]!r} is not the name of a file beside the header")
    return "/".join(parts)


def _decoded(line: bytes) -> str:
    """A line as text: UTF-8 as ITK writes it, or else any bytes, which only a comment should have."""
    line = line.strip()
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")

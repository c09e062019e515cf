"""What a format of ``lungforge export`` is."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.formats import FORMATS
from services.export.rows import Item

#: Path within the export to content.
Files = dict[str, bytes]


class ExportFormat(ABC):
    """Turns rows into files; one object writes one export.

    ``encode`` is called by several threads. ``add`` and ``finish`` are called by one, with the rows in the
    order of the datasets, so that what they make is the same however many threads there are.
    """

    #: Fields of the configuration that decide the bytes, beside the format.
    reads: ClassVar[frozenset[str]] = frozenset()
    #: What crops lack for this format; nothing where they do.
    crops_lack: ClassVar[str] = ""
    #: What else is to be known for reading the files, for the provenance.
    notes: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: ExportConfig) -> None:
        self.config = config

    @abstractmethod
    def encode(self, item: Item) -> Files:
        """The files of a row; none if the format leaves it out. A pure function of the row."""

    def add(self, item: Item, paths: Sequence[str]) -> None:  # noqa: B027 - few formats need it
        """Take note of a row whose files are written."""

    def finish(self) -> Files:
        """The files about all rows, such as annotations; written after those of the rows."""
        return {}

    def counts(self) -> dict[str, Any]:
        """For the provenance: ``classes``, ``boxes`` and ``small_boxes``, where they apply."""
        return {}

    def content_of(self, path: str) -> str:
        """What a file of a row holds, in one word: the end of its name."""
        return path.rsplit("/", 1)[-1].split(".")[-2].rsplit("_", 1)[-1]

    def takes(self, kind: Kind) -> bool:
        """Whether rows of a kind can be written."""
        return kind in (Kind.SLICES, Kind.SAMPLES) or (kind is Kind.CROPS and not self.crops_lack)


def make_format(config: ExportConfig) -> ExportFormat:
    """The format that the configuration names.

    Raises:
        InputError: It needs a package that is not installed.
    """
    module, name = FORMATS[config.format].split(":")
    made: ExportFormat = getattr(importlib.import_module(module), name)(config)
    return made

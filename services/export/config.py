"""Configuration of ``lungforge export``."""

import dataclasses
from typing import Literal

from lungforge.config import EXECUTION, NOT_EMPTY, between, check
from lungforge.ct.crops import CROP_SIZE
from lungforge.ct.window import WINDOW_HU
from lungforge.errors import InputError

Format = Literal["png", "coco", "metaimage", "imagefolder"]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Export a dataset as image files for other programs, with their provenance."""

    data: str = dataclasses.field(metadata=EXECUTION | NOT_EMPTY)
    """The dataset: slices, samples or crops."""

    out: str = dataclasses.field(metadata=EXECUTION | NOT_EMPTY)
    """Folder or URI to write to; the same command again resumes a stopped export."""

    format: Format = "png"
    """png: 8-bit and 16-bit CT, and maps. coco: 8-bit CT and nodule boxes. metaimage: HU and maps with their
    spacing. imagefolder: crops, in one folder per class."""

    window: tuple[int, int] = dataclasses.field(default=WINDOW_HU, metadata=between(-32768, 32767))
    """HU window of the 8-bit images: black and white."""

    crop: int = dataclasses.field(default=CROP_SIZE, metadata=between(8, 1024))
    """Side of the crops that imagefolder cuts from slices and samples, in pixels."""

    def __post_init__(self) -> None:
        check(self)
        low, high = self.window
        if low >= high:
            raise InputError(f"--window is {low} {high}; give two HU, the lower first, such as -1000 400")

"""Configuration of ``lungforge export``."""

import dataclasses
from typing import Literal, get_args

from lungforge.config import EXECUTION
from lungforge.ct.crops import CROP_SIZE
from lungforge.ct.window import WINDOW_HU
from lungforge.errors import InputError

Format = Literal["png", "coco", "metaimage", "imagefolder"]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Export a dataset as image files for other programs, with their provenance."""

    data: str = dataclasses.field(metadata=EXECUTION)
    """The dataset: slices, samples or crops."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Folder or URI to write to; the same command again resumes a stopped export."""

    format: Format = "png"
    """png: 8-bit and 16-bit CT, and maps. coco: 8-bit CT and nodule boxes. metaimage: HU and maps with their
    spacing. imagefolder: crops, in one folder per class."""

    window: tuple[int, int] = WINDOW_HU
    """HU window of the 8-bit images: black and white."""

    crop: int = CROP_SIZE
    """Side of the crops that imagefolder cuts from slices and samples, in pixels."""

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("--data is empty; give the folder or URI of a dataset")
        if not self.out:
            raise InputError("--out is empty; give a folder or URI")
        if self.format not in get_args(Format):
            raise InputError(f"--format is {self.format!r}; choose one of {', '.join(get_args(Format))}")
        low, high = self.window
        if not -32768 <= low < high <= 32767:
            raise InputError(f"--window is {low} {high}; give two HU, the lower first, such as -1000 400")
        if not 8 <= self.crop <= 1024:
            raise InputError(f"--crop is {self.crop}; choose a side from 8 to 1024 px")

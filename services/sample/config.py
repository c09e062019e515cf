"""What a sampling run is."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

from lungforge.config import EXECUTION
from lungforge.ct.edits import EDITS, EditName
from lungforge.errors import InputError

SamplerName = Literal["ancestral", "ddim", "dpmpp"]


@dataclass(frozen=True)
class SampleConfig:
    """Draw synthetic slices from maps."""

    model: str = dataclasses.field(metadata=EXECUTION)
    """The model to draw with, as `lungforge train` made it."""

    data: str = dataclasses.field(metadata=EXECUTION)
    """The slices whose maps are drawn from, as `lungforge preprocess` made them."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Where the samples go; the same command again goes on from what is there."""

    subsets: tuple[int, ...] | None = None
    """Subsets of LUNA16 whose maps are used; all when not given."""

    per_map: int = 1
    """Images drawn from each map."""

    count: int | None = None
    """Images in all, in place of --per-map: spread over the maps as evenly as can be."""

    sampler: SamplerName = "ancestral"
    """ancestral (with learned variance), ddim, or dpmpp (DPM-Solver++ 2M)."""

    steps: int = 50
    """Steps of the sampler, out of the 1000 of training; ancestral and ddim need about 50, dpmpp 20 to 30."""

    guidance: float = 1.5
    """How much the map is stressed; 1 is the plain conditional model."""

    edits: tuple[tuple[EditName, float], ...] = (("none", 1.0),)
    """How the maps are changed, as names and weights: none 1 move 1 resize 1 insert 2 remove 1. An image gets
    one of the edits that its slice allows: insert where there is no nodule, move, resize and remove where
    there is one."""

    inpaint: bool = False
    """Draw the neighbourhood of the edit only, and keep the real pixels elsewhere, to the last bit."""

    seed: int = 0
    """Decides the noise and the edits; another seed draws other images from the same maps."""

    part_images: int = 64
    """Images in each part of the output: what a killed worker loses at most."""

    workers: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Processes that draw; the images do not depend on it."""

    batch: int = dataclasses.field(default=8, metadata=EXECUTION)
    """Images that a worker draws at a time: bounds its memory, and changes rounding at most."""

    cpus_per_worker: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Cores, and so threads, of each worker."""

    gpus_per_worker: float = dataclasses.field(default=0.0, metadata=EXECUTION)
    """GPUs of each worker; 0.5 puts two workers on one GPU, 0 draws on the CPU."""

    dry_run: bool = dataclasses.field(default=False, metadata=EXECUTION)
    """Only say what would be drawn, and how long it would take, from one batch that is drawn and timed."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for name in ("per_map", "part_images", "workers", "batch", "cpus_per_worker"):
            if getattr(self, name) < 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)}; give at least 1")
        if self.count is not None and self.count < 1:
            raise InputError(f"--count is {self.count}; give at least 1, or leave it out")
        if self.count is not None and self.per_map != 1:
            raise InputError(
                f"--count {self.count} and --per-map {self.per_map} exclude each other; give one"
            )
        if self.sampler not in get_args(SamplerName):
            raise InputError(
                f"--sampler is {self.sampler!r}; choose one of {', '.join(get_args(SamplerName))}"
            )
        if not 1 <= self.steps <= 1000:
            raise InputError(f"--steps is {self.steps}; choose from 1 to 1000")
        if not 0 <= self.guidance < float("inf"):
            raise InputError(f"--guidance is {self.guidance}; give 0 or more, such as 1.5")
        if not 0 <= self.gpus_per_worker <= 1:
            raise InputError(
                f"--gpus-per-worker is {self.gpus_per_worker}; a worker has from 0 to 1 (raise --workers)"
            )
        if self.subsets is not None and not self.subsets:
            raise InputError("--subsets is empty; name at least one, or leave it out to use all")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; give 0 or more")
        self._check_edits()

    def _check_edits(self) -> None:
        names = [name for name, _ in self.edits]
        for name, weight in self.edits:
            if name not in EDITS:
                raise InputError(f"--edits has {name!r}; choose among {', '.join(EDITS)}")
            if names.count(name) > 1:
                raise InputError(f"--edits has {name} twice; give each edit one weight")
            if not 0 < weight < float("inf"):
                raise InputError(f"--edits gives {name} the weight {weight}; give a number above 0")
        if not names:
            raise InputError("--edits is empty; name some with their weights, such as none 1 insert 1")
        if self.inpaint and "none" in names:
            raise InputError(
                "--inpaint with the edit none would pass real slices off as synthetic; "
                "give --edits without none, such as --edits insert 1"
            )
        if self.inpaint and self.sampler != "ancestral":
            raise InputError(f"--inpaint draws by --sampler ancestral, not {self.sampler}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"

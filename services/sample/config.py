"""What a sampling run is."""

import math
from dataclasses import dataclass, field

from lungforge.config import EXECUTION, LEFT_OUT_WHEN_OFF, NOT_EMPTY, at_least, between, check, group, option
from lungforge.ct.edits import EDITS, EditName
from lungforge.errors import InputError
from lungforge.models.base import SamplerName, SamplingOptions

_SAMPLING, _EDITS = group("Sampler"), group("Edits of the maps")


@dataclass(frozen=True)
class SampleConfig:
    """Sample synthetic slices from maps."""

    model: str = field(metadata=EXECUTION)
    """The model to sample with, as `lungforge train` made it."""

    data: str = field(metadata=EXECUTION)
    """The slices whose maps are sampled from, as `lungforge preprocess` made them."""

    out: str = field(metadata=EXECUTION)
    """Where the samples go; the same command again resumes from what is there."""

    subsets: tuple[int, ...] | None = field(default=None, metadata=NOT_EMPTY)
    """Subsets of LUNA16 whose maps are used; all when not given."""

    per_map: int = field(default=1, metadata=at_least(1))
    """Images of each map."""

    count: int | None = field(default=None, metadata=at_least(1))
    """Images in total, in place of --per-map: spread over the maps as evenly as can be."""

    sampler: SamplerName | None = field(default=None, metadata=_SAMPLING)
    """dpmpp (DPM-Solver++ 2M), heun, ddim or ancestral; what suits the model when not given."""

    steps: int | None = field(default=None, metadata=_SAMPLING | between(1, 1000))
    """Evaluations of the network along one image; what suits the model and the sampler when not given."""

    guidance: float | None = field(default=None, metadata=_SAMPLING | at_least(0))
    """How much the map is stressed; 1 is the plain conditional model. 1.5 when not given."""

    guidance_interval: tuple[float, float] | None = field(default=None, metadata=_SAMPLING | at_least(0))
    """Guide only while the standard deviation of the noise, for pixels from -1 to 1, lies between these two;
    what suits the model when not given."""

    edits: tuple[tuple[EditName, float], ...] = field(default=(("none", 1.0),), metadata=_EDITS | NOT_EMPTY)
    """How the maps are changed, as names and weights: none 1 move 1 resize 1 insert 2 remove 1. An image gets
    one of the edits that its slice allows: insert where there is no nodule, move, resize and remove where
    there is one."""

    inpaint: bool = field(default=False, metadata=_EDITS)
    """Sample the neighbourhood of the edit only, and keep the real pixels elsewhere, to the last bit."""

    hu_gate: bool = field(default=False, metadata=_SAMPLING | LEFT_OUT_WHEN_OFF)
    """Sample an image again, up to four times, while the median of a class in it is outside the range of the
    model's training images in HU."""

    seed: int = field(default=0, metadata=at_least(0))
    """Decides the noise and the edits; another seed gives other images of the same maps."""

    part_images: int = field(default=64, metadata=at_least(1))
    """Images in each part of the output: what a killed worker loses at most."""

    workers: int = field(default=1, metadata=EXECUTION | at_least(1))
    """Processes that sample; the images do not depend on it."""

    batch: int = field(default=8, metadata=EXECUTION | at_least(1))
    """Images that a worker samples at a time: bounds its memory, and changes rounding at most."""

    cpus_per_worker: int = field(default=1, metadata=EXECUTION | at_least(1))
    """Cores, and so threads, of each worker."""

    gpus_per_worker: float = field(default=0.0, metadata=EXECUTION | between(0, 1))
    """GPUs of each worker; 0.5 puts two workers on one GPU, 0 samples on the CPU."""

    dry_run: bool = field(default=False, metadata=EXECUTION)
    """Only say what would be sampled, and how long it would take, from one batch that is timed."""

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        check(self)
        if self.count is not None and self.per_map != 1:
            raise InputError(
                f"--count {self.count} and --per-map {self.per_map} exclude each other; give one"
            )
        names = [name for name, _ in self.edits]
        for name, weight in self.edits:
            if name not in EDITS:
                raise InputError(f"{option('edits')} has {name!r}; choose among {', '.join(EDITS)}")
            if names.count(name) > 1:
                raise InputError(f"{option('edits')} has {name} twice; give each edit one weight")
            if not 0 < weight < math.inf:
                raise InputError(f"{option('edits')} gives {name} the weight {weight}; give a number above 0")
        if self.inpaint and "none" in names:
            raise InputError(
                "--inpaint with the edit none would pass real slices off as synthetic; "
                "give --edits without none, such as --edits insert 1"
            )
        if self.inpaint and self.sampler not in (None, "ancestral"):
            raise InputError(f"--inpaint needs --sampler ancestral, not {self.sampler}")
        if self.inpaint and self.hu_gate:
            raise InputError(
                "--hu-gate with --inpaint would judge the real pixels, which no retry changes; leave one out"
            )

    @property
    def sampling(self) -> SamplingOptions:
        """How to sample."""
        sampler = "ancestral" if self.inpaint else self.sampler
        return SamplingOptions(sampler, self.steps, self.guidance, self.guidance_interval)

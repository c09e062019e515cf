"""What an evaluation is: the configuration."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from lungforge.config import EXECUTION
from lungforge.errors import InputError


@dataclass(frozen=True)
class EvalConfig:
    """Measure synthetic slices against real ones, and write a report."""

    real: str = dataclasses.field(metadata=EXECUTION)
    """The real slices, as `lungforge preprocess` made them."""

    synthetic: tuple[str, ...] = dataclasses.field(metadata=EXECUTION)
    """The synthetic slices, as `lungforge sample` made them: one dataset or several, each for itself."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Where the report goes."""

    subsets: tuple[int, ...] | None = None
    """Subsets of the real slices to compare with, none of which the generator saw; all when not given."""

    extractor: Literal["efficientnet-lite0", "inception-v3"] = "efficientnet-lite0"
    """The network whose features are compared; inception-v3 is the one that FID is defined by."""

    weights: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """File or URI of the weights for inception-v3; looked up in torch's cache when not given."""

    features: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """Folder or URI where the features of each part are kept, so that none is embedded twice; kept nowhere
    when not given. No influence on the result."""

    allow_leakage: bool = False
    """Go on, with a warning in the report, although test scans were seen in training or drawn from."""

    allow_twins: bool = False
    """Go on, with a warning in the report, although synthetic slices are near-copies of real ones."""

    seed: int = 0
    """Decides the random halves and subsets."""

    workers: int = dataclasses.field(default=2, metadata=EXECUTION)
    """Parts that are worked on at a time; no influence on the result."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION)
    """GPUs of each worker: 0 or 1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        if not self.synthetic:
            raise InputError("--synthetic is empty; name at least one dataset that `lungforge sample` made")
        if len(set(self.synthetic)) < len(self.synthetic):
            raise InputError(f"--synthetic names a dataset twice: {', '.join(self.synthetic)}")
        if self.subsets is not None and not self.subsets:
            raise InputError("--subsets is empty; name at least one, or leave it out to compare with all")
        if self.weights is not None and self.extractor != "inception-v3":
            raise InputError(f"--weights is for --extractor inception-v3; {self.extractor} brings its own")
        if self.features == "":
            raise InputError("--features is empty; name a folder or URI, or leave it out")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; give 0 or more")
        if self.workers < 1:
            raise InputError(f"--workers is {self.workers}; give at least 1")
        if self.gpus_per_worker not in (0, 1):
            raise InputError(
                f"--gpus-per-worker is {self.gpus_per_worker}; a worker has 0 or 1 (raise --workers)"
            )

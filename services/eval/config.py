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
    """File or URI of the weights for inception-v3; when not given, torch's cache, filled by a download."""

    features: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """Folder or URI where the features of each part are kept, so that none is embedded twice; kept nowhere
    when not given. No influence on the result."""

    allow_leakage: bool = False
    """Go on, with a warning in the report, although test scans were seen in training or drawn from."""

    allow_twins: bool = False
    """Go on, with a warning in the report, although synthetic slices are near-copies of real ones."""

    downstream: Literal["none", "tiny", "cpu", "published"] = "none"
    """Train networks with and without the synthetic slices, too, and test them on the real ones: how large
    the networks are, and for how long. cpu takes a minute or two a network on a core."""

    tasks: tuple[Literal["classification", "localisation"], ...] = ("classification", "localisation")
    """What the networks learn: to tell nodules from what is none, and to find them."""

    train_subsets: tuple[int, ...] | None = None
    """Subsets of the real slices that the networks are trained on; needed for --downstream."""

    ratios: tuple[float, ...] = (1.0,)
    """Synthetic slices per real one, an arm each."""

    folds: int = 1
    """Into how many the scans that are trained on are divided; each network leaves one out. 1: none."""

    seeds: int = 3
    """Networks of each arm and fold."""

    seed: int = 0
    """Decides the random halves and subsets, the patches, and the networks' weights and batches."""

    workers: int = dataclasses.field(default=2, metadata=EXECUTION)
    """Parts, and networks, that are worked on at a time; no influence on the result."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION)
    """GPUs of each worker that measures: 0 or 1."""

    gpus_per_network: float = dataclasses.field(default=0.0, metadata=EXECUTION)
    """Share of a GPU for each network that is trained, such as 0.25; 0 trains on the CPU, with one core."""

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
        self._require_trainable()
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; give 0 or more")
        if self.workers < 1:
            raise InputError(f"--workers is {self.workers}; give at least 1")
        if self.gpus_per_worker not in (0, 1):
            raise InputError(
                f"--gpus-per-worker is {self.gpus_per_worker}; a worker has 0 or 1 (raise --workers)"
            )

    def _require_trainable(self) -> None:
        if self.downstream != "none" and not self.train_subsets:
            raise InputError(
                "--downstream needs --train-subsets: the subsets of real slices that networks are trained on"
            )
        if self.downstream == "none" and self.train_subsets is not None:
            raise InputError(
                "--train-subsets is for --downstream, which is none; give tiny, cpu or published"
            )
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise InputError("--tasks names none, or one twice; give classification, localisation or both")
        if not self.ratios or len(set(self.ratios)) < len(self.ratios) or not min(self.ratios) > 0:
            raise InputError(f"--ratios is {self.ratios}; give different numbers above 0, such as 0.5 1 2")
        if self.folds < 1 or self.seeds < 1:
            raise InputError(f"--folds is {self.folds} and --seeds {self.seeds}; give at least 1 of each")
        if self.gpus_per_network < 0:
            raise InputError(f"--gpus-per-network is {self.gpus_per_network}; give a share from 0")

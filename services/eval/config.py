"""What an evaluation is: the configuration."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from lungforge.config import EXECUTION, NOT_EMPTY, above, at_least, between, check, group
from lungforge.errors import InputError
from lungforge.metrics.extractors import Architecture, ExtractorName

_DOWNSTREAM = group("Networks trained with and without the synthetic slices")


@dataclass(frozen=True)
class EvalConfig:
    """Measure synthetic slices against real ones, and write a report."""

    real: str = dataclasses.field(metadata=EXECUTION)
    """The real slices, as `lungforge preprocess` made them."""

    synthetic: tuple[str, ...] = dataclasses.field(metadata=EXECUTION | NOT_EMPTY)
    """The synthetic slices, as `lungforge sample` made them: one dataset or several, each by itself."""

    out: str = dataclasses.field(metadata=EXECUTION)
    """Where the report goes."""

    subsets: tuple[int, ...] | None = dataclasses.field(default=None, metadata=NOT_EMPTY)
    """Subsets of the real slices to compare with, none of which the generator saw; all when not given."""

    extractor: ExtractorName = "efficientnet-lite0"
    """The network whose features are compared; inception-v3 is the one that FID is defined by."""

    weights: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """File or URI of the weights for inception-v3; when not given, torch's cache, filled by a download."""

    second_extractor: str | None = dataclasses.field(default=None, metadata=EXECUTION | NOT_EMPTY)
    """File or URI of the weights of a network of torchvision, as safetensors: KID and Fréchet distance of its
    features stand beside those of --extractor. Nothing is downloaded."""

    second_architecture: Architecture | None = None
    """Which network these weights are of; when not given, the file's metadata must name it."""

    features: str | None = dataclasses.field(default=None, metadata=EXECUTION | NOT_EMPTY)
    """Folder or URI where the features of each part are kept, so that none is computed twice; OUT/features
    when not given. Reports that share slices may share it. No influence on the result."""

    allow_leakage: bool = False
    """Evaluate, with a warning in the report, although test scans were used to train the generator or as
    sources of maps."""

    allow_near_duplicates: bool = False
    """Evaluate, with a warning in the report, although synthetic slices are near-duplicates of real ones."""

    downstream: Literal["none", "tiny", "cpu", "published"] = dataclasses.field(
        default="none", metadata=_DOWNSTREAM
    )
    """Also train networks with and without the synthetic slices, and test them on the real ones: how large
    the networks are, and for how long. cpu takes a minute or two per network on one core."""

    tasks: tuple[Literal["classification", "localisation"], ...] = dataclasses.field(
        default=("classification", "localisation"), metadata=_DOWNSTREAM | NOT_EMPTY
    )
    """What the networks learn: to tell nodules from other places, and to locate them."""

    train_subsets: tuple[int, ...] | None = dataclasses.field(default=None, metadata=_DOWNSTREAM)
    """Subsets of the real slices that the networks are trained on; needed for --downstream."""

    froc: bool = dataclasses.field(default=False, metadata=_DOWNSTREAM)
    """Also score the networks for localisation as LUNA16 does, on every slice of the test scans: sensitivity
    at 1/8 to 8 false positives a scan. Needs slices of `lungforge preprocess --slices all`."""

    ratios: tuple[float, ...] = dataclasses.field(default=(1.0,), metadata=_DOWNSTREAM | NOT_EMPTY | above(0))
    """Synthetic slices per real one; each ratio is an arm of its own."""

    folds: int = dataclasses.field(default=1, metadata=_DOWNSTREAM | at_least(1))
    """Folds of the training scans; each network holds one out to choose its checkpoint. 1: a fifth of the
    scans is held out, the same for every network."""

    seeds: int = dataclasses.field(default=5, metadata=_DOWNSTREAM | at_least(1))
    """Networks per arm and fold; with one network per arm nothing is compared."""

    seed: int = dataclasses.field(default=0, metadata=at_least(0))
    """Decides the random halves and subsets, the patches, and the networks' weights and batches."""

    workers: int = dataclasses.field(default=2, metadata=EXECUTION | at_least(1))
    """Parts, and networks, that are processed at a time; no influence on the result."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION | between(0, 1))
    """GPUs of each worker that measures: 0 or 1."""

    gpus_per_network: float = dataclasses.field(default=0.0, metadata=EXECUTION | at_least(0))
    """Share of a GPU for each network that is trained, such as 0.25; 0 trains on the CPU, with one core."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        check(self)
        for name in ("synthetic", "tasks", "ratios"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise InputError(
                    f"--{name} names a value twice: {' '.join(map(str, values))}; give each once"
                )
        if self.weights is not None and self.extractor != "inception-v3":
            raise InputError(f"--weights is for --extractor inception-v3; {self.extractor} brings its own")
        if self.second_architecture is not None and self.second_extractor is None:
            raise InputError(
                "--second-architecture is for --second-extractor, the file of weights; give both"
            )
        if self.downstream != "none" and not self.train_subsets:
            raise InputError(
                "--downstream needs --train-subsets: the subsets of real slices that networks are trained on"
            )
        if self.froc and (self.downstream == "none" or "localisation" not in self.tasks):
            raise InputError(
                "--froc scores networks for localisation; give --downstream tiny, cpu or published, and "
                "localisation among --tasks"
            )
        if self.downstream == "none" and self.train_subsets is not None:
            raise InputError(
                "--train-subsets is for --downstream, which is none; give tiny, cpu or published"
            )

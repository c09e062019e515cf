"""What a night is: the configuration."""

import dataclasses
import datetime
import re
from dataclasses import dataclass

from lungforge.config import EXECUTION, NOT_EMPTY, check
from lungforge.errors import InputError
from lungforge.metrics.extractors import ExtractorName
from lungforge.models.base import SamplerName


@dataclass(frozen=True)
class NightlyConfig:
    """Evaluate the newest model of a store, and say whether it is worse than those of the nights before."""

    store: str = dataclasses.field(metadata=EXECUTION)
    """Folder or URI that holds models/NAME (as `lungforge train` made them) and slices; nights/DATE,
    history.parquet and index.html are written there."""

    data: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """The real slices, as `lungforge preprocess` made them; STORE/slices when not given."""

    date: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """The night, as YYYY-MM-DD; today in UTC when not given. A night that is done is not done again."""

    subsets_of_maps: tuple[int, ...] = dataclasses.field(default=(0, 1, 2, 3, 4, 5, 6), metadata=NOT_EMPTY)
    """Subsets of LUNA16 whose maps are sampled from, the same every night."""

    test_subsets: tuple[int, ...] = dataclasses.field(default=(7, 8, 9), metadata=NOT_EMPTY)
    """Subsets of real slices to compare with, which no model of the store was trained on."""

    count: int = 256
    """Images generated in a night, spread evenly over the maps; more images show smaller losses."""

    sampler: SamplerName | None = None
    """dpmpp (DPM-Solver++ 2M), heun, ddim or ancestral; what suits the model when not given."""

    steps: int | None = None
    """Evaluations of the network along one image; what suits the model and the sampler when not given."""

    guidance: float | None = None
    """Guidance scale: how strongly images follow the map; 1 is the plain conditional model. 1.5 when not
    given."""

    extractor: ExtractorName = "efficientnet-lite0"
    """The network whose features are compared; inception-v3 is the one that FID is defined by."""

    weights: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """File or URI of the weights for inception-v3; when not given, torch's cache, filled by a download."""

    seed: int = 0
    """Decides which maps, the noise, and the random halves; the same every night. Nights are compared only
    with nights of the same seed, so another seed starts a new band."""

    workers: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Processes that sample, and parts that are measured, at a time."""

    batch: int = dataclasses.field(default=8, metadata=EXECUTION)
    """Images that a worker generates at a time."""

    pushgateway: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """URL of a Prometheus Pushgateway that gets the status of the night, for alerts; none by default."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION)
    """GPUs of each worker: 0 or 1."""

    def __post_init__(self) -> None:
        """Refuse what is no night; the configurations of sampling and evaluation check the rest."""
        check(self)
        if self.date is not None:
            _parse(self.date)
        both = sorted(set(self.subsets_of_maps) & set(self.test_subsets))
        if both:
            raise InputError(
                f"--subsets-of-maps and --test-subsets share {' '.join(map(str, both))}; "
                "compare with subsets that are not sampled from"
            )

    def night(self) -> datetime.date:
        """The date of the night.

        Raises:
            InputError: It is yet to come.
        """
        today = datetime.datetime.now(datetime.UTC).date()
        night = today if self.date is None else _parse(self.date)
        # East of Greenwich a day begins before it does in UTC.
        if (night - today).days > 1:
            raise InputError(f"--date is {night}, and today is {today}; give a night that has come")
        return night


def _parse(text: str) -> datetime.date:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return datetime.date.fromisoformat(text)
    except ValueError:
        pass
    raise InputError(f"--date is {text!r}; write it as YYYY-MM-DD, such as 2026-01-31")

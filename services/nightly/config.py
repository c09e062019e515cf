"""What a night is: the configuration."""

import dataclasses
import datetime
import re
from dataclasses import dataclass
from typing import Literal

from lungforge.config import EXECUTION
from lungforge.errors import InputError
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

    subsets_of_maps: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """Subsets of LUNA16 whose maps are drawn from, the same every night."""

    test_subsets: tuple[int, ...] = (7, 8, 9)
    """Subsets of real slices to compare with, which no model of the store was trained on."""

    count: int = 256
    """Images drawn in a night, spread over the maps as evenly as can be; with many, a small loss is seen."""

    sampler: SamplerName = "ancestral"
    """ancestral (with learned variance), ddim, or dpmpp (DPM-Solver++ 2M)."""

    steps: int = 50
    """Steps of the sampler."""

    guidance: float = 1.5
    """How much the map is stressed; 1 is the plain conditional model."""

    extractor: Literal["efficientnet-lite0", "inception-v3"] = "efficientnet-lite0"
    """The network whose features are compared; inception-v3 is the one that FID is defined by."""

    weights: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """File or URI of the weights for inception-v3; when not given, torch's cache, filled by a download."""

    seed: int = 0
    """Decides which maps, the noise, and the random halves; the same every night. Nights are compared with
    those of the same seed only, so another one begins afresh."""

    workers: int = dataclasses.field(default=1, metadata=EXECUTION)
    """Processes that draw, and parts that are measured, at a time."""

    batch: int = dataclasses.field(default=8, metadata=EXECUTION)
    """Images that a worker draws at a time."""

    pushgateway: str | None = dataclasses.field(default=None, metadata=EXECUTION)
    """URL of a Prometheus Pushgateway that is told of the night, for alerts; none when not given."""

    gpus_per_worker: int = dataclasses.field(default=0, metadata=EXECUTION)
    """GPUs of each worker: 0 or 1."""

    def __post_init__(self) -> None:
        """Refuse what is no night; what cannot be drawn or evaluated, their configurations refuse."""
        if self.date is not None:
            _parse(self.date)
        for option, subsets in (
            ("--subsets-of-maps", self.subsets_of_maps),
            ("--test-subsets", self.test_subsets),
        ):
            if not subsets:
                raise InputError(f"{option} is empty; name at least one")
        both = sorted(set(self.subsets_of_maps) & set(self.test_subsets))
        if both:
            raise InputError(
                f"--subsets-of-maps and --test-subsets share {' '.join(map(str, both))}; "
                "compare with subsets that are not drawn from"
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

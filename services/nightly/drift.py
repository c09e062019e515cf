"""Whether a night is worse than those before it.

The same model on the same data gives the same metrics, so the nights of one model do not show how far equally
good models differ. A band by their standard deviation alone would have no width, and every new model would
leave it. So the band is never narrower than the spread that the choice of images causes within a night.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lungforge.metrics.judgement import GOOD_HU
from services.nightly.history import Night

#: Good nights that make the band: the last ones, and how many it takes at least.
NIGHTS, LEAST_NIGHTS = 14, 4
#: How many spreads above the mean are worse.
SPREADS = 3.0
#: The band's spread is at least this share of the mean, so that no rounding is drift.
LEAST_SHARE = 0.01
#: The least spread of a count: one near-duplicate where there was none is outside the band.
LEAST_COUNT = 0.3
#: The least spread of a difference of HU: three of them are what a report still calls good.
LEAST_HU = GOOD_HU / SPREADS
#: The least spread of the share of memorised images.
LEAST_MEMORISED = 0.01


@dataclass(frozen=True)
class Metric:
    """A metric of a night, of which less is better.

    Attributes:
        column: Its name in the history.
        title: Its name for people.
        spread: The column of its spread by the choice of images; None where that is not measured.
        least: What its spread is at least.
        is_count: Whether it is a whole number.
    """

    column: str
    title: str
    spread: str | None = None
    least: float = 0.0
    is_count: bool = False


METRICS = (
    Metric("radiomic", "Radiomic distance", "radiomic_spread"),
    Metric("hu_difference", "Hounsfield units", least=LEAST_HU),
    Metric("kid", "KID", "kid_spread"),
    Metric("frechet", "Fréchet distance", "frechet_spread"),
    Metric("near_duplicates", "Near-duplicates", least=LEAST_COUNT, is_count=True),
    Metric("memorised", "Memorised share", "memorised_spread", LEAST_MEMORISED),
)


@dataclass(frozen=True)
class DriftBand:
    """What is usual: mean and spread of the last good nights.

    Attributes:
        mean: Of the nights.
        spread: Their standard deviation, or what it is at least.
        nights: How many they are.
    """

    mean: float
    spread: float
    nights: int

    @property
    def limit(self) -> float:
        """Above it, a night is worse."""
        return self.mean + SPREADS * self.spread


def value_of(night: Night, metric: Metric) -> float | None:
    """The value of a metric in a night; None where it was not measured."""
    value: float | None = getattr(night, metric.column)
    return value


def band_of(before: Sequence[Night], settings: str, metric: Metric) -> DriftBand | None:
    """The band that a night is judged by.

    Args:
        before: The nights before it, by date.
        settings: Its settings; nights of others are passed over, as are those that failed or were worse.
        metric: The metric.

    Returns:
        The band, or None where there are fewer than ``LEAST_NIGHTS`` good nights.
    """
    good = [
        (night, value)
        for night in before
        if night.status == "done" and night.settings == settings
        if (value := value_of(night, metric)) is not None
    ][-NIGHTS:]
    if len(good) < LEAST_NIGHTS:
        return None
    values = [value for _, value in good]
    mean = statistics.fmean(values)
    within = metric.least
    if metric.spread is not None:
        spreads = [getattr(night, metric.spread) for night, _ in good]
        within = max(within, statistics.fmean(spread or 0.0 for spread in spreads))
    return DriftBand(mean, max(statistics.stdev(values), within, LEAST_SHARE * abs(mean)), len(good))


def reasons_of(night: Night, before: Sequence[Night]) -> list[str]:
    """Why a night is worse, a clause for each metric; nothing when it is not, or too few nights are there."""
    reasons = []
    for metric in METRICS:
        value, band = value_of(night, metric), band_of(before, night.settings, metric)
        if value is not None and band is not None and value > band.limit:
            reasons.append(
                f"{metric.title} {value:.4g} is above {band.limit:.4g}, "
                f"{band.mean:.4g} + {SPREADS:g} × {band.spread:.2g} of {band.nights} nights"
            )
    return reasons + _changes(night, before) if reasons else []


def _changes(night: Night, before: Sequence[Night]) -> list[str]:
    """What is new since the last good night: where to look first."""
    last = [other for other in before if other.status == "done" and other.settings == night.settings][-1]
    compared = {"model": "model_sha256", "real slices": "data_sha256", "code": "code_version"}
    changed = [name for name, column in compared.items() if getattr(night, column) != getattr(last, column)]
    if not changed:
        return [f"model, real slices and code are those of {last.date}: look at libraries and hardware"]
    return [f"changed since {last.date}: {', '.join(changed)}"]

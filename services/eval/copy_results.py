"""What is measured of copies, as types: near-duplicates of real slices, and memorised training slices."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NearDuplicate:
    """A synthetic slice that is a near-duplicate of a real one.

    Attributes:
        sample_id: The synthetic slice.
        series_uid: The scan of the real one.
        slice_index: Its index in the scan.
        is_source: Whether the synthetic slice was generated from its map.
        texture_correlation: Once registered, -1 to 1.
        threshold: The correlation above which this slice is a near-duplicate.
        real_slice: What brings the real slice onto the synthetic one, in words.
    """

    sample_id: str
    series_uid: str
    slice_index: int
    is_source: bool
    texture_correlation: float
    threshold: float
    real_slice: str


@dataclass(frozen=True)
class FalseAlarms:
    """What the search says of real slices, which are compared with those of other patients only.

    Attributes:
        checked: Real slices that were compared.
        count: Those that it calls near-duplicates.
        highest_correlation: Of texture, of any of them.
    """

    checked: int
    count: int
    highest_correlation: float


@dataclass(frozen=True)
class NearDuplicates:
    """How many synthetic slices are near-duplicates of real ones.

    Attributes:
        checked: Slices that were compared.
        count: Near-duplicates among them.
        lowest_threshold: The correlation above which a slice is a near-duplicate, of the slice where it is
            lowest; it is the higher, the fewer pixels lie away from borders.
        highest_threshold: Of the slice where it is highest.
        false_alarms: The same search with real slices; None where all are of one patient.
        median_correlation: Of texture, with the most similar real slice of each.
        highest_correlation: The highest of these.
        examples: The first of the near-duplicates.
    """

    checked: int
    count: int
    lowest_threshold: float
    highest_threshold: float
    false_alarms: FalseAlarms | None
    median_correlation: float
    highest_correlation: float
    examples: tuple[NearDuplicate, ...]


@dataclass(frozen=True)
class DistanceQuantiles:
    """Percentiles of the distance to the nearest training slice, in units of the features."""

    images: int
    percentile_5: float
    percentile_25: float
    median: float
    percentile_75: float
    percentile_95: float


@dataclass(frozen=True)
class DistanceHistogram:
    """Both distributions of these distances over bins of equal width.

    Attributes:
        longest: Upper edge of the last bin; the first begins at 0.
        synthetic: Share of the synthetic slices in each bin.
        held_out: Share of the held-out real slices in each bin.
    """

    longest: float
    synthetic: tuple[float, ...]
    held_out: tuple[float, ...]


@dataclass(frozen=True)
class MemorisedPair:
    """A synthetic slice and the training slice nearest to it.

    Attributes:
        sample_id: The synthetic slice.
        series_uid: The scan of the training slice.
        slice_index: Its index in the scan.
        is_source: Whether the synthetic slice was generated from its map.
        distance: Between their features.
        in_tail: Whether that is less than real slices of other patients hardly ever have.
    """

    sample_id: str
    series_uid: str
    slice_index: int
    is_source: bool
    distance: float
    in_tail: bool


@dataclass(frozen=True)
class MemorisationResult:
    """How near synthetic slices are to the training slices, beside held-out real slices of other patients.

    Attributes:
        training_images: Slices that the generator was trained on.
        tail_share: Share of the synthetic slices nearer to a training slice than real slices of other
            patients hardly ever are: nearer than all but 1 % of them, or than all where there are at most
            100.
        tail_interval_95_percent: Of that share, by a bootstrap over patients; None where a side is of one.
        tail_expected: The share that is expected without memorisation.
        tail_distance: The distance that they fall below.
        worst: The synthetic slices nearest to a training slice, and that slice; the nearest first.
        ratio: Median distance of the synthetic slices over that of the held-out ones.
        interval_95_percent: Of the ratio; None where a side is of one patient.
        closer_than_5_percent: Share of the synthetic slices nearer to a training slice than all but 5 % of
            the held-out ones.
        nearest_is_source: Synthetic slices whose nearest training slice is the one whose map they are of.
        synthetic: Distances of the synthetic slices.
        held_out: Distances of real slices of patients that the generator did not see.
        histogram: Both distributions.
    """

    training_images: int
    tail_share: float
    tail_interval_95_percent: tuple[float, float] | None
    tail_expected: float
    tail_distance: float
    worst: tuple[MemorisedPair, ...]
    ratio: float
    interval_95_percent: tuple[float, float] | None
    closer_than_5_percent: float
    nearest_is_source: int
    synthetic: DistanceQuantiles
    held_out: DistanceQuantiles
    histogram: DistanceHistogram

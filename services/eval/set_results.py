"""What is measured of one set of synthetic slices, as types; results.py puts them together to a report."""

from dataclasses import dataclass

from lungforge.metrics.radiomic_distance import FeatureShift
from lungforge.metrics.radiomics import Region
from lungforge.metrics.real_baseline import BaselineComparison


@dataclass(frozen=True)
class RegionDistance:
    """The Fréchet distance of the radiomic features of one region.

    Attributes:
        region: lungs, body or nodules.
        distance: Over the slices that show the region.
        real_slices: Real ones that do.
        synthetic_slices: Synthetic ones that do.
    """

    region: Region
    distance: float
    real_slices: int
    synthetic_slices: int


@dataclass(frozen=True)
class RadiomicResult:
    """The radiomic Fréchet distance between a set of synthetic slices and the real ones.

    Attributes:
        distance: Over all images: the sum over the regions.
        real_images: Real images behind ``distance``.
        synthetic_images: Synthetic images behind it.
        features: How many features are compared.
        regions: The distance in each region that both sets show.
        baseline: Beside the distance between real and real; None where the real images do not allow it.
        p_value: That real slices of other scans are as far away (permuted by scan); None with too few scans.
        permutations: Of that test; 0 without it.
        moved: The features that differ by more than chance, the largest shift first; without a test those
            that differ by a standard deviation and more.
    """

    distance: float
    real_images: int
    synthetic_images: int
    features: int
    regions: tuple[RegionDistance, ...]
    baseline: BaselineComparison | None
    p_value: float | None
    permutations: int
    moved: tuple[FeatureShift, ...]


@dataclass(frozen=True)
class FrechetResult:
    """The Fréchet distance between a set of synthetic slices and the real ones.

    Attributes:
        name: What the distance is called with this extractor; only one network's is the FID.
        value: Over all images.
        real_images: Real images behind ``value``.
        synthetic_images: Synthetic images behind it.
        baseline: Beside the distance between real and real; None where the real images do not allow it.
        without_bias: Extrapolated to infinitely many images ("FD infinity"); None where there are too few.
    """

    name: str
    value: float
    real_images: int
    synthetic_images: int
    baseline: BaselineComparison | None
    without_bias: float | None


@dataclass(frozen=True)
class KidResult:
    """The kernel inception distance (KID).

    Attributes:
        name: What it is called with this extractor.
        mean: Over random subsets; unbiased, so that it may fall below 0.
        spread: Standard deviation over the subsets.
        subsets: How many subsets.
        subset_size: Images from each side in a subset.
        baseline: Beside the KID between real and real; None where the real images do not allow it.
        p_value: That real slices of other scans have as large a KID (permuted by scan); None with too few
            scans.
        permutations: Of that test; 0 without it.
    """

    name: str
    mean: float
    spread: float
    subsets: int
    subset_size: int
    baseline: BaselineComparison | None
    p_value: float | None
    permutations: int


@dataclass(frozen=True)
class Coverage:
    """Precision or recall: the share of one set's images that the other set covers.

    Attributes:
        value: Over all images; None where there are too few.
        baseline: Beside the share between real and real; None where the images are too few.
    """

    value: float | None
    baseline: BaselineComparison | None


@dataclass(frozen=True)
class PrecisionRecallResult:
    """Improved precision and recall.

    Attributes:
        name: What they are called with this extractor.
        neighbour: The k of the nearest neighbour whose distance is the radius.
        real_images: Real images behind the values.
        synthetic_images: Synthetic images behind them.
        precision: Synthetic images that real ones cover.
        recall: Real images that synthetic ones cover.
    """

    name: str
    neighbour: int
    real_images: int
    synthetic_images: int
    precision: Coverage
    recall: Coverage


@dataclass(frozen=True)
class HounsfieldSummary:
    """HU of the pixels of one class, within the window; None where there is no pixel.

    Attributes:
        pixels: How many.
        median: HU.
        lower_quartile: HU.
        upper_quartile: HU.
    """

    pixels: int
    median: int | None
    lower_quartile: int | None
    upper_quartile: int | None


@dataclass(frozen=True)
class HounsfieldRow:
    """HU of one class of the map, real and synthetic.

    Attributes:
        class_name: Of the map.
        real: Over the pixels of all real slices.
        synthetic: Over the pixels of all synthetic slices.
        difference: Synthetic median minus real median, HU; None where one of them is missing.
        from_source: Mean absolute difference of a slice's median from that of its source slice, HU; None for
            patches, and where no source slice is available.
        p_value: That chance makes the mean of the slices' medians differ so much in any class (permuted by
            scan); None with too few scans or slices.
    """

    class_name: str
    real: HounsfieldSummary
    synthetic: HounsfieldSummary
    difference: int | None
    from_source: float | None
    p_value: float | None


@dataclass(frozen=True)
class ContrastSummary:
    """How much brighter nodules are than the lung 2 to 10 mm from them, HU; None where there is none.

    Attributes:
        nodules: How many that have lung around them.
        median: HU.
        lower_quartile: HU.
        upper_quartile: HU.
    """

    nodules: int
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None


@dataclass(frozen=True)
class NoduleContrast:
    """The contrast of the nodules, real and synthetic."""

    real: ContrastSummary
    synthetic: ContrastSummary


@dataclass(frozen=True)
class NotMeasured:
    """In place of a result.

    Attributes:
        why_not: The reason, as the end of a sentence.
    """

    why_not: str


@dataclass(frozen=True)
class DiceSummary:
    """Dice overlap of segmentation and map over the images that hold a structure; None without any.

    Attributes:
        images: How many.
        median: 0 to 1.
        percentile_5: 0 to 1.
    """

    images: int
    median: float | None
    percentile_5: float | None


@dataclass(frozen=True)
class StructureAgreement:
    """How well one structure, segmented again, agrees with the map, real and synthetic."""

    structure: str
    real: DiceSummary
    synthetic: DiceSummary


@dataclass(frozen=True)
class MapAgreement:
    """How well what the segmentation finds in the slices agrees with their maps."""

    structures: tuple[StructureAgreement, ...]


@dataclass(frozen=True)
class NearDuplicate:
    """A synthetic slice that is a near-duplicate of a real one.

    Attributes:
        sample_id: The synthetic slice.
        series_uid: The scan of the real one.
        slice_index: Its index in the scan.
        is_source: Whether the synthetic slice was generated from its map.
        texture_correlation: Once registered, -1 to 1.
        real_slice: What brings the real slice onto the synthetic one, in words.
    """

    sample_id: str
    series_uid: str
    slice_index: int
    is_source: bool
    texture_correlation: float
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
        threshold: The correlation above which a slice is a near-duplicate.
        false_alarms: The same search with real slices; None where all are of one patient.
        median_correlation: Of texture, with the most similar real slice of each.
        highest_correlation: The highest of these.
        examples: The first of the near-duplicates.
    """

    checked: int
    count: int
    threshold: float
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


@dataclass(frozen=True)
class GenerationSettings:
    """How a set was generated, as its first slice says."""

    sampler: str
    steps: int
    guidance: float
    edit: str

"""What is measured of one set of synthetic slices, as types; results.py puts them together to a report."""

from dataclasses import dataclass

from lungforge.metrics.hu_gate import GateCounts
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
class NetworkDistances:
    """The distances by the features of a second network."""

    frechet: FrechetResult
    kid: KidResult


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
class GenerationSettings:
    """How a set was generated, as its first slice says.

    Attributes:
        sampler: Its name.
        steps: Evaluations of the network along one image.
        guidance: Scale of the guidance.
        edit: Of the map.
        hu_gate: What the gate on Hounsfield units did, as the set's manifest says; None without one.
    """

    sampler: str
    steps: int
    guidance: float
    edit: str
    hu_gate: GateCounts | None = None

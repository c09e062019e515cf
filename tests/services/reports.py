"""Results of evaluations for tests that need some: sound ones, in which a test changes what it is about."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from lungforge.metrics.extractors import Description
from lungforge.metrics.radiomic_distance import FeatureShift
from lungforge.metrics.real_baseline import BaselineComparison
from services.eval.copy_results import (
    DistanceHistogram,
    DistanceQuantiles,
    FalseAlarms,
    MemorisationResult,
    MemorisedPair,
    NearDuplicates,
)
from services.eval.downstream.results import (
    ArmCurve,
    ArmResult,
    CropTestSet,
    Difference,
    DownstreamResults,
    MeasureResult,
    TaskResult,
)
from services.eval.results import (
    AncestorDataset,
    Chip,
    EvaluationReport,
    Headline,
    RealReference,
    SetResults,
)
from services.eval.set_results import (
    ContrastSummary,
    Coverage,
    FrechetResult,
    GenerationSettings,
    HounsfieldRow,
    HounsfieldSummary,
    KidResult,
    MapAgreement,
    NoduleContrast,
    NotMeasured,
    PrecisionRecallResult,
    RadiomicResult,
    RegionDistance,
)

EXTRACTOR = Description(
    "efficientnet-lite0", "Fréchet distance (EfficientNet-Lite0)", 1280, "grey", "to 224", "e" * 64
)


def baseline(synthetic: float, real: float = 10.0, spread: float = 1.0) -> BaselineComparison:
    return BaselineComparison(
        images=30,
        repeats=10,
        real_mean=real,
        real_spread=spread,
        synthetic_mean=synthetic,
        synthetic_spread=1.0,
    )


RADIOMIC = RadiomicResult(
    distance=1.5,
    real_images=60,
    synthetic_images=40,
    features=17,
    regions=(RegionDistance("lungs", 1.5, 60, 40),),
    baseline=baseline(2.0, real=1.0, spread=0.1),
    p_value=0.002,
    permutations=999,
    moved=(FeatureShift("median", "lungs", "HU", -850.0, -660.0, 4.5, 0.001),),
)


def memorisation(**changes: Any) -> MemorisationResult:
    quantiles = DistanceQuantiles(40, 1.0, 2.0, 3.0, 4.0, 5.0)
    sound = MemorisationResult(
        training_images=100,
        tail_share=0.025,
        tail_interval_95_percent=(0.0, 0.06),
        tail_expected=0.01,
        tail_distance=0.9,
        worst=(MemorisedPair("s1", "1.2.3", 4, True, 0.5, True),),
        ratio=0.97,
        interval_95_percent=(0.9, 1.05),
        closer_than_5_percent=0.05,
        nearest_is_source=2,
        synthetic=quantiles,
        held_out=quantiles,
        histogram=DistanceHistogram(6.0, (0.25, 0.75), (0.5, 0.5)),
    )
    return dataclasses.replace(sound, **changes)


def set_results(name: str = "one", *, near_duplicates: int = 0, **changes: Any) -> SetResults:
    pixels = HounsfieldSummary(100, 30, 20, 40)
    contrast = ContrastSummary(6, 850.5, 800.0, 900.0)
    sound = SetResults(
        name=name,
        uri=f"s3://lab/{name}",
        images=40,
        source_scans=20,
        radiomic=RADIOMIC,
        frechet=FrechetResult(EXTRACTOR.distance_name, 12.5, 60, 40, baseline(25.0), None),
        kid=KidResult("KID (efficientnet-lite0)", -0.001, 0.002, 100, 20, None, 0.4, 999),
        precision_recall=PrecisionRecallResult(
            "Improved precision and recall", 3, 60, 40, Coverage(0.5, None), Coverage(None, None)
        ),
        hounsfield_units=(
            HounsfieldRow("body", pixels, HounsfieldSummary(0, None, None, None), None, None, None),
        ),
        nodule_contrast_hu=NoduleContrast(contrast, contrast),
        map_agreement=MapAgreement(()),
        near_duplicates=NearDuplicates(40, near_duplicates, 0.75, FalseAlarms(200, 1, 0.76), 0.1, 0.2, ()),
        memorisation=memorisation(),
        generated_with=GenerationSettings("ancestral", 50, 1.5, ""),
        lineage=(ancestor("samples", "b" * 64, f"s3://lab/{name}"),),
    )
    return dataclasses.replace(sound, **changes)


HEADLINE = Headline(
    "Poor in Hounsfield units.",
    (Chip("Realism", "good", "radiomic distance 1.1 x real-vs-real"), Chip("Helps", "not measured", "no")),
)


def report(
    *sets: SetResults,
    subsets: tuple[int, ...] | None = (8, 9),
    real_sha256: str = "a" * 64,
    train_subsets: Sequence[int] | None = None,
) -> EvaluationReport:
    """A report; with downstream results that hold no task where ``train_subsets`` are given."""
    downstream = None
    if train_subsets is not None:
        downstream = DownstreamResults("cpu", tuple(train_subsets), 1, 1, None, ())
    return EvaluationReport(
        date="2026-01-31",
        headlines=tuple(HEADLINE for _ in sets),
        verdict=("It is “good”.",),
        warnings=(),
        real=RealReference("s3://lab/slices", real_sha256, subsets, 60, 30, 28, 200, "scans"),
        extractor=EXTRACTOR,
        sets=sets,
        downstream=downstream,
        leakage_allowed=False,
        config={"seed": 0, "subsets": [8, 9]},
        command="lungforge evaluate",
    )


def ancestor(kind: str, digest: str, uri: str, **changes: Any) -> AncestorDataset:
    sound = AncestorDataset(kind, uri, digest, "1", selection=None, parents=(), config={})
    return dataclasses.replace(sound, **changes)


def arm_result(key: str, *differences: Difference, synthetic: int | None = None) -> ArmResult:
    """An arm of a classification task, with its differences in the headline measure."""
    return ArmResult(
        key=key,
        name=f"name of {key}",
        real=not key.endswith("only"),
        synthetic=synthetic,
        ratio=0.0 if synthetic is None else 1.0,
        augmented=key != "real",
        training_pictures=(18,),
        chosen_steps=(200, 1400),
        last_loss=0.5,
        measures=(
            MeasureResult("balanced_accuracy", 0.5, None, differences),
            MeasureResult("auroc", 0.75, 0.02, ()),
        ),
        curve=ArmCurve((0.0, 0.5, 1.0), (0.0, 1.0, 1.0)),
    )


def task_result(*arms: ArmResult, not_measured: str | None = None) -> TaskResult:
    """A classification task; real slices alone come before ``arms``."""
    return TaskResult(
        task="classification",
        network="a network",
        headline="balanced_accuracy",
        networks_per_arm=2,
        steps=1600,
        validation_scans=(3,),
        draws=1000,
        test=CropTestSet(12, 6, 3),
        not_measured=None if not_measured is None else NotMeasured(not_measured),
        arms=(arm_result("real"), *arms),
    )


def downstream_results(*tasks: TaskResult) -> DownstreamResults:
    return DownstreamResults("cpu", (0, 1, 2), 1, 1, None, tasks)

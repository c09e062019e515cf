"""What the manifests of a preprocessing job say beyond their parts."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lungforge.ct.window import WINDOW_HU
from services.preprocess.plan import Rejection, SourceSurvey
from services.preprocess.volume import VolumeOutcome


def rejections_of(outcome: VolumeOutcome) -> list[Rejection]:
    """The volume, if it is bad as a whole, or those of its annotations that are."""
    reasons = outcome.outside if outcome.rejected is None else (outcome.rejected,)
    return [Rejection(outcome.series_uid, reason) for reason in reasons]


def all_rejections(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> list[Rejection]:
    """Everything of the source that is not used."""
    return [*source.rejected, *(bad for outcome in outcomes for bad in rejections_of(outcome))]


def slices_details(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> dict[str, Any]:
    """The details of the slices dataset."""
    used = [outcome for outcome in outcomes if outcome.rejected is None]
    return {
        **_common_details(source, outcomes),
        "subsets": _by_subset(used, _slice_counts),
        "crops": sum(outcome.crops.rows for outcome in used if outcome.crops),
        "masks": dict(Counter("derived" if o.derived else "luna16" for o in used if o.slices)),
        "values": "Hounsfield units",
        "window_hu": list(WINDOW_HU),
    }


def crops_details(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> dict[str, Any]:
    """The details of the crops dataset."""
    used = [outcome for outcome in outcomes if outcome.rejected is None]
    return {**_common_details(source, outcomes), "subsets": _by_subset(used, _crop_counts)}


def _common_details(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> dict[str, Any]:
    return {
        "rejected": [dataclasses.asdict(bad) for bad in all_rejections(source, outcomes)],
        "skipped": [
            {"series_uid": outcome.series_uid, "reason": reason}
            for outcome in outcomes
            if outcome.rejected is None
            for reason in outcome.skipped
        ],
        "annotations_without_scan": source.annotations_without_scan,
    }


def _slice_counts(outcome: VolumeOutcome) -> dict[str, int]:
    rows = outcome.slices.rows if outcome.slices else 0
    return {
        "volumes": int(outcome.slices is not None or outcome.crops is not None),
        "slices": rows,
        "slices_with_nodules": outcome.slices_with_nodules,
        "slices_without_nodules": rows - outcome.slices_with_nodules,
        "nodules": outcome.nodules,
    }


def _crop_counts(outcome: VolumeOutcome) -> dict[str, int]:
    rows = outcome.crops.rows if outcome.crops else 0
    return {
        "volumes": int(outcome.crops is not None),
        "class_0": rows - outcome.nodule_crops,
        "class_1": outcome.nodule_crops,
    }


def _by_subset(
    outcomes: Sequence[VolumeOutcome], counts: Callable[[VolumeOutcome], dict[str, int]]
) -> dict[str, dict[str, int]]:
    """Counts of each subset; -1 stands for series of no subset."""
    sums: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        sums.setdefault(str(outcome.subset), Counter()).update(counts(outcome))
    return {subset: dict(counter) for subset, counter in sums.items()}

"""What the manifests of a preprocessing job say beyond their parts."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lungforge.ct.window import WINDOW_HU
from services.preprocess.refusals import Rejection
from services.preprocess.survey import SourceSurvey
from services.preprocess.volume import VolumeOutcome


def rejections(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> list[Rejection]:
    """The tables and volumes of the source that are not used."""
    bad = [Rejection(o.series_uid, o.rejected) for o in outcomes if o.rejected is not None]
    return [*source.rejected, *bad]


def slices_details(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> dict[str, Any]:
    """The details of the slices dataset."""
    used = [outcome for outcome in outcomes if outcome.rejected is None]
    return {
        **_common_details(source, outcomes),
        **({} if source.patients is None else {"patients": dataclasses.asdict(source.patients)}),
        "subsets": _by_subset(used, _slice_counts),
        "crops": sum(outcome.crops.rows for outcome in used if outcome.crops),
        "masks": dict(Counter("derived" if o.derived else "luna16" for o in used if o.slices)),
        **({"excluded_findings": _excluded(used)} if source.excluded else {}),
        "values": "Hounsfield units",
        "window_hu": list(WINDOW_HU),
    }


def _excluded(outcomes: Sequence[VolumeOutcome]) -> dict[str, list[list[float]]]:
    """Series uid to its excluded findings: x, y, z and diameter in mm, in the frame of its images."""
    return {outcome.series_uid: [list(place) for place in outcome.excluded] for outcome in outcomes}


def crops_details(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> dict[str, Any]:
    """The details of the crops dataset."""
    used = [outcome for outcome in outcomes if outcome.rejected is None]
    return {**_common_details(source, outcomes), "subsets": _by_subset(used, _crop_counts)}


def _common_details(source: SourceSurvey, outcomes: Sequence[VolumeOutcome]) -> dict[str, Any]:
    outside = [dataclasses.asdict(one) for outcome in outcomes for one in outcome.outside_annotations]
    return {
        "origin": "phantoms" if source.phantoms else "scans",
        "rejected": [dataclasses.asdict(bad) for bad in rejections(source, outcomes)],
        **({"annotations_outside": outside} if outside else {}),
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

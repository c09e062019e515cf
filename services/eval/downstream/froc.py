"""Detection over whole scans: a network's boxes of all slices become candidates, scored as LUNA16 does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from lungforge.ct.io.luna16_tables import Annotation
from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset
from lungforge.datasets.slices import index_rows
from lungforge.errors import InputError
from lungforge.metrics.candidates import Plane, join_nodules, merge_boxes
from lungforge.metrics.froc import froc_score, judge, scan_draws, sensitivities
from services.common.progress import progress
from services.common.ray_tasks import run_tasks
from services.eval.downstream.arms import Arm
from services.eval.downstream.examples import Examples
from services.eval.downstream.froc_results import FrocResult, FrocResults
from services.eval.downstream.runs import DownstreamRun, RunResult

#: Boxes ``[K, 4]`` (left, top, width, height in px) and scores ``[K]`` of each slice.
Detections = Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]

_COLUMNS: Final = ["series_uid", "subset", "slice_index", "z_mm", "spacing_mm", "nodules"]


@dataclass(frozen=True)
class PlacedSlice:
    """Where a test slice is, and which nodules cross it."""

    series_uid: str
    slice_index: int
    z_mm: float
    spacing_mm: tuple[float, float]
    nodules: tuple[Mapping[str, float], ...]


def require_whole_scans(real: Dataset, subsets: Sequence[int] | None, patch: int | None) -> None:
    """Refuse test slices that are not all slices of their scans, or show no nodule.

    Args:
        real: The real slices.
        subsets: Those to test on; None for all.
        patch: Side of the patches that the networks are trained on, in px; None for whole slices.

    Raises:
        InputError: Says what is missing.
    """
    if patch is not None:
        raise InputError(
            f"--froc needs networks of whole slices, and the synthetic slices are patches of {patch} px; "
            "leave --froc out"
        )
    made = real.manifest.config.get("slices", "all")
    if made != "all":
        raise InputError(
            f"--froc needs every slice of the test scans, and {real.uri} was made with --slices {made}; "
            "make the real slices with `lungforge preprocess --slices all`"
        )
    index = index_rows(real, subsets)
    of_scan: dict[str, list[int]] = {}
    for series, slice_index in zip(index.series.tolist(), index.slice_index.tolist(), strict=True):
        of_scan.setdefault(scan_of(index.series_uids[series]), []).append(slice_index)
    gaps = sorted(
        scan
        for scan, indices in of_scan.items()
        if len(indices) < 2 or sorted(indices) != list(range(len(indices)))
    )
    if gaps:
        raise InputError(
            f"--froc needs every slice of the test scans, and {len(gaps)} of {len(of_scan)} lack some, first "
            f"{gaps[0]} with {len(of_scan[gaps[0]])}; make the real slices with "
            "`lungforge preprocess --slices all` from whole scans"
        )
    if not index.nodules.any():
        raise InputError("--froc needs nodules in the test scans, and there are none; give other --subsets")


def read_test_slices(real: Dataset, subsets: Sequence[int] | None) -> list[PlacedSlice]:
    """The test slices without their images, in the order in which the networks are tested on them."""
    slices = []
    for part in real.parts:
        for table in real.iter_batches(part, columns=_COLUMNS):
            if subsets is not None:
                table = table.filter(pc.is_in(table.column("subset"), value_set=pa.array(subsets, pa.int8())))
            slices += [
                PlacedSlice(
                    series_uid=row["series_uid"],
                    slice_index=row["slice_index"],
                    z_mm=row["z_mm"],
                    spacing_mm=tuple(row["spacing_mm"]),
                    nodules=tuple(row["nodules"]),
                )
                for row in table.to_pylist()
            ]
    return slices


def excluded_findings(real: Dataset) -> list[Annotation] | None:
    """The excluded findings that the manifest of the slices has, in mm in the frame of their scan's slices.

    None where the slices were made without a table of them.
    """
    by_series = real.manifest.details.get("excluded_findings")
    if by_series is None:
        return None
    return [Annotation(uid, *place) for uid, places in by_series.items() for place in places]


def network_sensitivities(
    slices: Sequence[PlacedSlice], detections: Detections, excluded: Sequence[Annotation], seed: int
) -> tuple[NDArray[np.float64], float]:
    """Sensitivities ``[draws + 1, 7]`` of a network over draws of the scans, and its candidates a scan.

    Args:
        slices: All slices of the test scans, in any order.
        detections: Of each slice.
        excluded: Findings on which candidates are ignored.
        seed: Of the draws: the same for every network, so that arms are compared on the same scans.
    """
    stacks = scan_stacks(slices, detections)
    candidates = [candidate for scan, stack in stacks.items() for candidate in merge_boxes(scan, stack)]
    nodules = [nodule for scan, stack in stacks.items() for nodule in join_nodules(scan, stack)]
    judged = judge(candidates, nodules, excluded, stacks)
    return sensitivities(judged, scan_draws(len(stacks), seed)), len(candidates) / len(stacks)


def score_arms(
    real: Dataset,
    subsets: Sequence[int] | None,
    arms: Sequence[Arm],
    results: Mapping[DownstreamRun, RunResult],
    test: Examples,
    seed: int,
    workers: int,
) -> FrocResults:
    """Score the localisation networks of every arm, inside a Ray session.

    Args:
        real: The real slices.
        subsets: Those that the networks were tested on; None for all.
        arms: The arms.
        results: Of every run; those of other tasks are left out.
        test: The test set, with the true boxes of the slices.
        seed: Of the bootstrap.
        workers: Networks that are scored at a time; no influence on the result.
    """
    slices, excluded = read_test_slices(real, subsets), excluded_findings(real)
    shared, ignored = ray.put(slices), ray.put(excluded or [])
    runs = [run for run in results if run.task == "localisation"]
    scored: dict[DownstreamRun, tuple[NDArray[np.float64], float]] = {}

    def start(run: DownstreamRun) -> Any:
        return _score.remote(shared, results[run].detections, ignored, seed)

    with progress(
        "detection over whole scans", len(runs), unit="networks", start="starting the workers"
    ) as advance:
        for done in run_tasks(start, runs, workers):
            scored[done.item] = done.result
            advance(note=done.item.name)
    truth = [(np.asarray(boxes).reshape(-1, 4), np.ones(len(boxes))) for boxes in test.boxes]
    values, _ = network_sensitivities(slices, truth, excluded or [], seed)
    stacks = scan_stacks(slices, truth)
    return FrocResults(
        scans=len(stacks),
        slices=len(slices),
        nodules=sum(len(join_nodules(scan, stack)) for scan, stack in stacks.items()),
        excluded=None if excluded is None else sum(finding.series_uid in stacks for finding in excluded),
        networks_per_arm=len(runs) // len(arms),
        true_boxes=froc_score(values),
        arms=tuple(_of_arm(arm, [scored[run] for run in runs if run.arm == arm]) for arm in arms),
    )


@ray.remote(num_cpus=1)
def _score(
    slices: Sequence[PlacedSlice], detections: Detections, excluded: Sequence[Annotation], seed: int
) -> tuple[NDArray[np.float64], float]:
    return network_sensitivities(slices, detections, excluded, seed)


def scan_stacks(slices: Sequence[PlacedSlice], detections: Detections) -> dict[str, list[Plane]]:
    """The slices of each scan in their order, with their boxes."""
    stacks: dict[str, list[Plane]] = {}
    pairs = zip(slices, detections, strict=True)
    for each, (boxes, scores) in sorted(pairs, key=lambda pair: (pair[0].series_uid, pair[0].slice_index)):
        plane = Plane(each.z_mm, each.spacing_mm, boxes, scores, each.nodules)
        stacks.setdefault(each.series_uid, []).append(plane)
    return stacks


def _of_arm(arm: Arm, networks: Sequence[tuple[NDArray[np.float64], float]]) -> FrocResult:
    """The mean over the networks, draw by draw."""
    return FrocResult(
        key=arm.key,
        name=arm.name,
        score=froc_score(np.mean([values for values, _ in networks], axis=0)),
        candidates_per_scan=float(np.mean([candidates for _, candidates in networks])),
    )

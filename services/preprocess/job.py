"""``lungforge preprocess``: LUNA16 volumes to slices and maps, one part a volume, by Ray Data."""

import dataclasses
import logging
import pickle
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ray

from lungforge.config import identity
from lungforge.ct.window import WINDOW_HU
from lungforge.datasets import DatasetWriter, Kind, Manifest
from lungforge.errors import InputError
from lungforge.storage import join_uri
from services.common import telemetry
from services.common.progress import progress, say
from services.common.ray_session import ray_session
from services.preprocess.config import PreprocessConfig
from services.preprocess.plan import Bad, Plan, Survey, Unit, no_good_volume, plan_all, survey
from services.preprocess.volume import Outcome, VolumeTask, wants_healthy

#: Most volumes that one task of Ray works on, one after another: some 15 ms of the driver go into each task.
#: But every worker gets at least so many tasks, so that none waits long for the last.
_MOST_VOLUMES_A_TASK, _TASKS_A_WORKER = 8, 8
#: How large a pixel of image and map is in a part, about: what zstd leaves of a CT's noise and of a map.
_BYTES_PER_PIXEL = 1.2
_BYTES_PER_CROP = 1500


@dataclasses.dataclass(frozen=True)
class PreprocessResult:
    """What was made, or with ``dry_run`` what would be made: then slices and bytes are estimates."""

    uri: str
    volumes: int
    """Volumes that gave slices or crops."""
    slices: int
    nodules: int
    crops: int
    bytes: int
    rejected: tuple[dict[str, str], ...]
    """The bad volumes and annotations: series_uid and reason of each."""
    dry_run: bool = False


def run(config: PreprocessConfig) -> PreprocessResult:
    """Make the dataset; the crops' first, if asked for, so that who sees the slices finds the crops too.

    A bad volume is named on stderr and in the manifest's ``rejected``, and so is an annotation that lies
    outside its volume, whose other nodules are used. So is a candidates_V2.csv that cannot
    be read, and then no crops are made. Without a readable annotations.csv every map would lack its nodules,
    so that ends the job.

    Raises:
        InputError: The source is wrong, no volume of it is good, a volume is bad and ``strict`` is set, or
            nothing would be in the dataset.
        StoreError: Another dataset is at ``out``, or its place cannot be written.
    """
    slices = DatasetWriter(config.out, Kind.SLICES, identity(config), config.seed)
    crops = DatasetWriter(join_uri(config.out, "crops"), Kind.CROPS, identity(config), config.seed)
    if not config.dry_run:
        finished = slices.find_manifest()
        if finished is not None:
            say(f"{config.out} is finished already")
            return _result(config, finished)
    found = survey(config)
    if found.annotations_without_scan:
        say(f"{found.annotations_without_scan} rows of annotations.csv name scans that are not in the source")
    for bad in found.rejected:
        _report(bad, config)
    if config.dry_run:
        return _dry_run(config, found)
    outcomes = _work(config, found, VolumeTask(config, slices, crops))
    manifest = _commit(config, found, outcomes, slices, crops)
    return _result(config, manifest)


def _work(config: PreprocessConfig, found: Survey, task: VolumeTask) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with ray_session(config.workers), progress("preprocess", len(found.units), unit="volumes") as advance:
        for outcome in _outcomes(config, found.units, task):
            for bad in _bad(outcome):
                _report(bad, config)
            outcomes.append(outcome)
            telemetry.VOLUMES.inc(1, {"outcome": outcome.name})
            advance()
    resumed = sum(outcome.resumed and outcome.slices is not None for outcome in outcomes)
    if resumed:
        say(f"{resumed} volumes were there from an earlier run")
    return sorted(outcomes, key=lambda outcome: (outcome.subset, outcome.series_uid))


def _outcomes(config: PreprocessConfig, units: tuple[Unit, ...], task: VolumeTask) -> Iterator[Outcome]:
    """Work on the volumes, as many at a time as there are workers; in no particular order."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # so that what a store says reaches the user
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = config.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    a_task = min(max(len(units) // (workers * _TASKS_A_WORKER), 1), _MOST_VOLUMES_A_TASK)
    dataset = ray.data.from_items(
        [{"unit": pickle.dumps(unit)} for unit in units], override_num_blocks=-(-len(units) // a_task)
    ).map(
        _work_on_row,
        fn_kwargs={"task": task},
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=workers),
    )
    for row in dataset.iter_rows():
        yield pickle.loads(row["outcome"])  # noqa: S301 - from our own workers


def _work_on_row(row: dict[str, bytes], task: VolumeTask) -> dict[str, bytes]:
    # Rows travel as Arrow tables, which hold bytes but no objects.
    return {"outcome": pickle.dumps(task(pickle.loads(row["unit"])))}  # noqa: S301


def _report(bad: Bad, config: PreprocessConfig) -> None:
    if config.strict and not config.dry_run:
        raise InputError(f"{bad.series_uid}: {bad.reason}")
    say(f"left out: {bad.series_uid}: {bad.reason}")


def _commit(
    config: PreprocessConfig,
    found: Survey,
    outcomes: list[Outcome],
    slices: DatasetWriter,
    crops: DatasetWriter,
) -> Manifest:
    good = [outcome for outcome in outcomes if outcome.rejected is None]
    rejected = [
        *found.rejected,
        *(bad for outcome in outcomes for bad in _bad(outcome)),
    ]
    if not good:
        raise no_good_volume(config, rejected)
    if not any(outcome.slices for outcome in good):
        raise InputError(
            f"{config.source}: no slice of {len(good)} volumes shows a nodule of at least "
            f"{config.minimum_diameter_mm:g} mm; take others by --healthy-every or --slices all"
        )
    shapes = sorted({outcome.shape for outcome in good if outcome.shape})
    if len(shapes) > 1:
        raise InputError(
            f"{config.source}: the images have different sizes ({shapes}); give them one by --size"
        )
    common = {
        "rejected": [dataclasses.asdict(bad) for bad in rejected],
        "skipped": [
            {"series_uid": outcome.series_uid, "reason": reason}
            for outcome in good
            for reason in outcome.skipped
        ],
        "annotations_without_scan": found.annotations_without_scan,
    }
    if found.crops:
        crop_parts = [outcome.crops for outcome in good if outcome.crops]
        crops.commit(crop_parts, {**common, "subsets": _by_subset(good, _crop_counts)})
    details = {
        **common,
        "subsets": _by_subset(good, _slice_counts),
        "crops": sum(outcome.crops.rows for outcome in good if outcome.crops),
        "masks": dict(Counter("derived" if o.derived else "luna16" for o in good if o.slices)),
        "values": "Hounsfield units",
        "window_hu": list(WINDOW_HU),
    }
    return slices.commit([outcome.slices for outcome in good if outcome.slices], details)


def _bad(found: Outcome) -> list[Bad]:
    """The volume, if it is bad as a whole, or those of its annotations that are."""
    reasons = found.lost if found.rejected is None else (found.rejected,)
    return [Bad(found.series_uid, reason) for reason in reasons]


def _slice_counts(outcome: Outcome) -> dict[str, int]:
    rows = outcome.slices.rows if outcome.slices else 0
    return {
        "volumes": int(outcome.slices is not None or outcome.crops is not None),
        "slices": rows,
        "slices_with_nodules": outcome.slices_with_nodules,
        "slices_without_nodules": rows - outcome.slices_with_nodules,
        "nodules": outcome.nodules,
    }


def _crop_counts(outcome: Outcome) -> dict[str, int]:
    rows = outcome.crops.rows if outcome.crops else 0
    return {
        "volumes": int(outcome.crops is not None),
        "class_0": rows - outcome.nodule_crops,
        "class_1": outcome.nodule_crops,
    }


def _by_subset(outcomes: list[Outcome], counts: Any) -> dict[str, dict[str, int]]:
    """Counts of each subset; -1 stands for series of no subset."""
    sums: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        sums.setdefault(str(outcome.subset), Counter()).update(counts(outcome))
    return {subset: dict(counter) for subset, counter in sums.items()}


def _result(config: PreprocessConfig, manifest: Manifest) -> PreprocessResult:
    subsets = manifest.details["subsets"].values()
    return PreprocessResult(
        uri=config.out,
        volumes=sum(subset["volumes"] for subset in subsets),
        slices=sum(part.rows for part in manifest.parts),
        nodules=sum(subset["nodules"] for subset in subsets),
        crops=manifest.details["crops"],
        bytes=sum(part.bytes for part in manifest.parts),
        rejected=tuple(manifest.details["rejected"]),
    )


def _dry_run(config: PreprocessConfig, found: Survey) -> PreprocessResult:
    rejected = list(found.rejected)
    plans: list[Plan] = []
    for unit, plan in zip(found.units, plan_all(found.units, config), strict=True):
        if isinstance(plan, Plan):
            plans.append(plan)
            bad = [Bad(unit.entry.series_uid, reason) for reason in plan.lost]
        else:
            bad = [plan]
        for one in bad:
            _report(one, config)
        rejected += bad
    if not plans:
        raise no_good_volume(config, rejected)
    slices = nodules = crops = pixels = volumes = 0
    for plan in plans:
        # Whether a slice shows lung is not in the header: this is the most that it can be.
        healthy = plan.geometry.size[2] - len(plan.crossed) if wants_healthy(plan, config) else 0
        taken = len(plan.slices) + -(-healthy // max(config.healthy_every, 1))
        slices += taken
        nodules += sum(bool(set(plan.slices) & nodule.masks.keys()) for nodule in plan.nodules)
        crops += len(plan.crops)
        volumes += bool(taken or plan.crops)
        pixels += taken * plan.pixel_map.shape[0] * plan.pixel_map.shape[1]
    size = int(pixels * _BYTES_PER_PIXEL) + crops * _BYTES_PER_CROP
    say(f"would write about {size / 1e6:.3g} MB to {config.out}")
    return PreprocessResult(
        config.out,
        volumes,
        slices,
        nodules,
        crops,
        size,
        tuple(map(dataclasses.asdict, rejected)),
        dry_run=True,
    )

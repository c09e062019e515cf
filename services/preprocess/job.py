"""``lungforge preprocess``: LUNA16 volumes to slices and maps, one part a volume, by Ray Data.

Only a volume whose bytes prove that it is bad is rejected. What the storage refuses (denied, expired, gone
since it was listed, cut short, ...) is tried again and then ends the job before anything is committed: a
dataset never lacks a volume because of a token that expired on the way.
"""

import dataclasses
import logging
import pickle
from collections.abc import Iterator, Sequence

import ray

from lungforge.config import identity
from lungforge.datasets import DatasetWriter, Kind, Manifest, Part
from lungforge.errors import AccessError, ContentError, InputError
from lungforge.storage import join_uri
from services.common import telemetry
from services.common.progress import progress, say
from services.common.ray_session import ray_session
from services.preprocess.config import PreprocessConfig
from services.preprocess.details import all_rejections, crops_details, rejections_of, slices_details
from services.preprocess.plan import (
    Rejection,
    SourceSurvey,
    SourceVolume,
    VolumePlan,
    no_good_volume,
    plan_all,
    survey,
)
from services.preprocess.volume import VolumeOutcome, VolumeTask, wants_healthy, with_patience

#: Most volumes that one task of Ray works on, one after another: each task costs the driver some 15 ms.
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
    """Make the dataset; the crops' first, if asked for, so that a reader of the slices has the crops too.

    A bad volume is named on stderr and in the manifest's ``rejected``, and so is an annotation that lies
    outside its volume, whose other nodules are used. So is a candidates_V2.csv that is not a table of
    candidates, and then no crops are made. Without a good annotations.csv every map would lack its nodules,
    so that ends the job.

    Raises:
        InputError: The source is wrong, no volume of it is good, a volume is bad and ``strict`` is set,
            nothing would be in the dataset, or another dataset is at ``out``.
        AccessError: The storage of the source or of the output refuses, also after more tries; nothing is
            committed.
    """
    slices = DatasetWriter(config.out, Kind.SLICES, identity(config), config.seed)
    crops = DatasetWriter(join_uri(config.out, "crops"), Kind.CROPS, identity(config), config.seed)
    finished = None if config.dry_run else slices.find_manifest()
    if finished is not None and not (config.retry_rejected and finished.details["rejected"]):
        say(f"{config.out} is finished already{_rejected_words(finished)}")
        return _result(config, finished)
    source = survey(config)
    if source.annotations_without_scan:
        say(f"{source.annotations_without_scan} rows of annotations.csv name scans that the source lacks")
    for bad in source.rejected:
        _report(bad, config)
    if config.dry_run:
        return _dry_run(config, source)
    outcomes = _run_volumes(config, source, VolumeTask(config, slices, crops))
    manifest = _commit(config, source, outcomes, slices, crops, finished)
    return _result(config, manifest)


def _rejected_words(manifest: Manifest) -> str:
    rejected = len(manifest.details["rejected"])
    return f"; it lacks what is rejected ({rejected}): --retry-rejected tries that again" if rejected else ""


def _run_volumes(config: PreprocessConfig, source: SourceSurvey, task: VolumeTask) -> list[VolumeOutcome]:
    """Work on all volumes, and on the bad ones twice: a fault on the way may look like damage."""
    with ray_session(config.workers):
        outcomes = _pass(config, source.volumes, task, "preprocess")
        bad = {outcome.part_name for outcome in outcomes if outcome.rejected is not None}
        if bad:
            say(f"bad volumes, read once more: {len(bad)}")
            again = tuple(volume for volume in source.volumes if volume.part_name in bad)
            outcomes = [outcome for outcome in outcomes if outcome.part_name not in bad]
            outcomes += _pass(config, again, task, "preprocess: bad volumes again")
    outcomes.sort(key=lambda outcome: (outcome.subset, outcome.series_uid))
    for outcome in outcomes:
        if outcome.rejected is not None:
            telemetry.VOLUMES.inc(1, {"outcome": outcome.state})
        for rejection in rejections_of(outcome):
            _report(rejection, config)
    resumed = sum(outcome.resumed and outcome.slices is not None for outcome in outcomes)
    if resumed:
        say(f"{resumed} volumes were there from an earlier run")
    return outcomes


def _pass(
    config: PreprocessConfig, volumes: tuple[SourceVolume, ...], task: VolumeTask, title: str
) -> list[VolumeOutcome]:
    """Work on volumes, as many at a time as there are workers; the outcomes are in no particular order."""
    outcomes = []
    with progress(title, len(volumes), unit="volumes") as advance:
        for outcome in _outcomes(config, volumes, task):
            if config.strict:
                for rejection in rejections_of(outcome):
                    _report(rejection, config)
            outcomes.append(outcome)
            if outcome.rejected is None:  # a bad one may be sound the second time
                telemetry.VOLUMES.inc(1, {"outcome": outcome.state})
            advance()
    return outcomes


def _outcomes(
    config: PreprocessConfig, volumes: tuple[SourceVolume, ...], task: VolumeTask
) -> Iterator[VolumeOutcome]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # so that an OSError reaches the user as one
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = config.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    a_task = min(max(len(volumes) // (workers * _TASKS_A_WORKER), 1), _MOST_VOLUMES_A_TASK)
    tasks = -(-len(volumes) // a_task)
    dataset = ray.data.from_items(
        [{"volume": pickle.dumps(volume)} for volume in volumes], override_num_blocks=tasks
    ).map(
        work_on_row,
        fn_kwargs={"task": task},
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(workers, tasks)),
    )
    for row in dataset.iter_rows():
        outcome = pickle.loads(row["outcome"])  # noqa: S301 - from this job's workers
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def work_on_row(row: dict[str, bytes], task: VolumeTask) -> dict[str, bytes]:
    """The work on one volume, as Ray Data calls it: rows are Arrow tables, which hold bytes, no objects.

    An error that is meant for the user is an outcome too: to one that is raised, Ray Data adds a paragraph.
    """
    outcome: VolumeOutcome | Exception
    try:
        outcome = task(pickle.loads(row["volume"]))  # noqa: S301
    except (InputError, AccessError) as error:
        outcome = error
    return {"outcome": pickle.dumps(outcome)}


def _report(bad: Rejection, config: PreprocessConfig) -> None:
    if config.strict and not config.dry_run:
        raise InputError(f"{bad.series_uid}: {bad.reason}")
    say(f"rejected: {bad.series_uid}: {bad.reason}")


def _commit(
    config: PreprocessConfig,
    source: SourceSurvey,
    outcomes: list[VolumeOutcome],
    slices: DatasetWriter,
    crops: DatasetWriter,
    finished: Manifest | None,
) -> Manifest:
    used = [outcome for outcome in outcomes if outcome.rejected is None]
    if not used:
        raise no_good_volume(config, all_rejections(source, outcomes))
    if not any(outcome.slices for outcome in used):
        raise InputError(
            f"{config.source}: no slice of {len(used)} volumes shows a nodule of at least "
            f"{config.minimum_diameter_mm:g} mm; take others by --healthy-every or --slices all"
        )
    shapes = sorted({outcome.shape for outcome in used if outcome.shape})
    if len(shapes) > 1:
        raise InputError(
            f"{config.source}: the images have different sizes ({shapes}); give them one by --size"
        )
    slice_parts = [outcome.slices for outcome in used if outcome.slices]
    crop_parts = [outcome.crops for outcome in used if outcome.crops] if source.crops else []
    finished_crops = crops.find_manifest() if finished is not None else None
    _require_kept(config, finished, slice_parts)
    _require_kept(config, finished_crops, crop_parts)
    if source.crops:
        crops.commit(crop_parts, crops_details(source, outcomes), replacing=finished_crops)
    return slices.commit(slice_parts, slices_details(source, outcomes), replacing=finished)


def _require_kept(config: PreprocessConfig, finished: Manifest | None, parts: Sequence[Part]) -> None:
    """Retrying what is rejected must not cost a finished dataset any of its volumes."""
    lost = {part.name for part in finished.parts} - {part.name for part in parts} if finished else set()
    if lost:
        raise ContentError(
            f"{config.source}: of the volumes that {config.out} holds, {len(lost)} bad or gone now "
            f"(the first is {min(lost)}); the dataset stays as it is"
        )


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


def _dry_run(config: PreprocessConfig, source: SourceSurvey) -> PreprocessResult:
    rejected = list(source.rejected)
    plans: list[VolumePlan] = []
    planned = with_patience(lambda: plan_all(source.volumes, config))
    for volume, plan in zip(source.volumes, planned, strict=True):
        if isinstance(plan, VolumePlan):
            plans.append(plan)
            bad = [Rejection(volume.entry.series_uid, reason) for reason in plan.outside]
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

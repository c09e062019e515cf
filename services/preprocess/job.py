"""``lungforge preprocess``: LUNA16 volumes to slices and maps, one part a volume, by Ray Data if it is there.

Only a volume whose bytes prove that it is bad is rejected, or one of which worker after worker dies. What the
storage refuses (denied, expired, gone since it was listed, cut short, ...) is tried again and then ends the
job before anything is committed: a dataset never lacks a volume because of a token that expired on the way.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from lungforge.config import identity
from lungforge.datasets import DatasetWriter, Kind, Manifest
from lungforge.storage import join_uri
from services.common import telemetry
from services.common.config_file import keep_config
from services.common.progress import progress, say, waiting
from services.common.workers import with_ray, work_session
from services.preprocess.config import PreprocessConfig
from services.preprocess.details import crops_details, rejections, slices_details
from services.preprocess.dry_run import dry_run
from services.preprocess.refusals import Rejection, require_images, require_kept
from services.preprocess.result import PreprocessResult
from services.preprocess.survey import SourceSurvey, SourceVolume, survey
from services.preprocess.volume import VolumeOutcome, VolumeTask


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
    finished = slices.find_manifest()
    if finished is not None and not (config.retry_rejected and _lacking(finished)):
        say(f"{config.out} is finished already{_lacking_words(finished)}")
        return dataclasses.replace(_result(config, finished), dry_run=config.dry_run)
    finished_crops = crops.find_manifest() if finished is not None else None
    with waiting("reading the headers and tables of the source", logged=False):
        source = survey(config)
    if config.dry_run:
        return dry_run(config, source, finished, finished_crops)
    for bad in source.rejected:
        bad.report(strict=config.strict)
    outcomes = _run_volumes(config, source, VolumeTask(config, slices, crops))
    used = [outcome for outcome in outcomes if outcome.rejected is None]
    require_images(config, [outcome.shape for outcome in used], rejections(source, outcomes))
    slice_parts = [outcome.slices for outcome in used if outcome.slices]
    crop_parts = [outcome.crops for outcome in used if outcome.crops] if source.crops else []
    require_kept(config, finished, [part.name for part in slice_parts])
    require_kept(config, finished_crops, [part.name for part in crop_parts])
    keep_config("preprocess", config, slices.uri)
    if source.crops:
        crops.commit(crop_parts, crops_details(source, outcomes), replacing=finished_crops)
    manifest = slices.commit(slice_parts, slices_details(source, outcomes), replacing=finished)
    return _result(config, manifest)


def _lacking(manifest: Manifest) -> int:
    return len(manifest.details["rejected"]) + len(manifest.details.get("annotations_outside", ()))


def _lacking_words(manifest: Manifest) -> str:
    lacking = _lacking(manifest)
    return f"; it lacks what is rejected ({lacking}): --retry-rejected tries that again" if lacking else ""


def _run_volumes(config: PreprocessConfig, source: SourceSurvey, task: VolumeTask) -> list[VolumeOutcome]:
    """Work on all volumes, and on the bad ones twice: a fault on the way may look like damage."""
    with work_session(config.workers):
        outcomes = _pass(config, source.volumes, task, "preprocess")
        bad = {o.part_name for o in outcomes if o.rejected is not None and not o.took_down}
        if bad:
            say(f"bad volumes, read once more: {len(bad)}")
            again = [volume for volume in source.volumes if volume.part_name in bad]
            outcomes = [outcome for outcome in outcomes if outcome.part_name not in bad]
            outcomes += _pass(config, again, task, "preprocess: bad volumes again")
    outcomes.sort(key=lambda outcome: (outcome.subset, outcome.series_uid))
    for outcome in outcomes:
        if outcome.rejected is not None:
            telemetry.VOLUMES.inc(1, {"outcome": outcome.state})
        _report(outcome, config)
    resumed = sum(outcome.resumed and outcome.slices is not None for outcome in outcomes)
    if resumed:
        say(f"{resumed} volumes were there from an earlier run")
    return outcomes


def _pass(
    config: PreprocessConfig, volumes: Sequence[SourceVolume], task: VolumeTask, title: str
) -> list[VolumeOutcome]:
    """Work on volumes, as many at a time as there are workers; the outcomes are in no particular order."""
    outcomes = []
    with progress(title, len(volumes), unit="volumes", start="starting the workers") as advance:
        for outcome in _work(volumes, task, config.workers):
            if config.strict:
                _report(outcome, config)
            outcomes.append(outcome)
            if outcome.rejected is None:  # a bad one may be sound the second time
                telemetry.VOLUMES.inc(1, {"outcome": outcome.state})
            advance()
    return outcomes


def _work(volumes: Sequence[SourceVolume], task: VolumeTask, workers: int | None) -> Iterable[VolumeOutcome]:
    """Work on volumes: by Ray, or one after another in this process."""
    if not with_ray():
        return map(task, volumes)
    from services.preprocess.ray_data import work_on_volumes

    return work_on_volumes(volumes, task, workers)


def _report(outcome: VolumeOutcome, config: PreprocessConfig) -> None:
    if outcome.rejected is not None:
        Rejection(outcome.series_uid, outcome.rejected).report(strict=config.strict)
    for outside in outcome.outside_annotations:
        outside.report(strict=config.strict)


def _result(config: PreprocessConfig, manifest: Manifest) -> PreprocessResult:
    subsets = manifest.details["subsets"].values()
    return PreprocessResult(
        uri=config.out,
        volumes=sum(subset["volumes"] for subset in subsets),
        slices=sum(part.rows for part in manifest.parts),
        nodules=sum(subset["nodules"] for subset in subsets),
        crops=manifest.details["crops"],
        bytes=manifest.nbytes,
        rejected=tuple(manifest.details["rejected"]),
        annotations_outside=tuple(manifest.details.get("annotations_outside", ())),
    )

"""What a job would make, from headers and tables alone; as far as these tell, it ends as the job would."""

import dataclasses
from collections.abc import Sequence

from lungforge.datasets import Manifest
from services.common.progress import say
from services.preprocess.config import PreprocessConfig
from services.preprocess.plan import VolumePlan, plan_all
from services.preprocess.refusals import OutsideAnnotation, Rejection, require_images, require_kept
from services.preprocess.result import PreprocessResult
from services.preprocess.survey import SourceSurvey
from services.preprocess.volume import wants_healthy, with_patience

#: How large a pixel of image and map is in a part, about: what zstd leaves of a CT's noise and of a map.
_BYTES_PER_PIXEL = 1.2
_BYTES_PER_CROP = 1500


def dry_run(
    config: PreprocessConfig, source: SourceSurvey, finished: Manifest | None, finished_crops: Manifest | None
) -> PreprocessResult:
    """Plan all volumes, say what is bad, and estimate what would be made.

    Args:
        config: The job.
        source: Its source.
        finished: The dataset whose rejected volumes would be tried again.
        finished_crops: The crops beside it.

    Raises:
        InputError: The job would end with one: something is bad and ``strict`` is set, nothing would be in
            the dataset, images would have different sizes, or a finished dataset would lose a volume.
        AccessError: A volume cannot be read now.
    """
    rejected, outside = list(source.rejected), []
    plans: dict[str, VolumePlan] = {}
    planned = with_patience(lambda: plan_all(source.volumes, config))
    for volume, plan in zip(source.volumes, planned, strict=True):
        if isinstance(plan, Rejection):
            rejected.append(plan)
        else:
            plans[f"part-{volume.part_name}.parquet"] = plan
            outside += [OutsideAnnotation(volume.entry.series_uid, reason) for reason in plan.outside]
    bad: Sequence[Rejection | OutsideAnnotation] = [*rejected, *outside]
    for one in bad:
        one.report(strict=False)
    if config.strict and bad:
        bad[0].report(strict=True)
    slices = {name: _most_slices(plan, config) for name, plan in plans.items()}
    require_images(
        config, [plan.pixel_map.shape if slices[name] else None for name, plan in plans.items()], rejected
    )
    with_crops = [name for name, plan in plans.items() if plan.crops] if source.crops else []
    require_kept(config, finished, [name for name, count in slices.items() if count])
    require_kept(config, finished_crops, with_crops)
    crops = sum(len(plan.crops) for plan in plans.values())
    pixels = sum(
        slices[name] * plan.pixel_map.shape[0] * plan.pixel_map.shape[1] for name, plan in plans.items()
    )
    size = int(pixels * _BYTES_PER_PIXEL) + crops * _BYTES_PER_CROP
    say(f"would write about {size / 1e6:.3g} MB to {config.out}")
    return PreprocessResult(
        uri=config.out,
        volumes=sum(bool(slices[name] or plan.crops) for name, plan in plans.items()),
        slices=sum(slices.values()),
        nodules=sum(
            bool(set(plan.slices) & nodule.masks.keys()) for plan in plans.values() for nodule in plan.nodules
        ),
        crops=crops,
        bytes=size,
        rejected=tuple(map(dataclasses.asdict, rejected)),
        annotations_outside=tuple(map(dataclasses.asdict, outside)),
        dry_run=True,
    )


def _most_slices(plan: VolumePlan, config: PreprocessConfig) -> int:
    # Whether a slice shows lung is not in the header: this is the most that it can be.
    healthy = plan.geometry.size[2] - len(plan.crossed) if wants_healthy(plan, config) else 0
    return len(plan.slices) + -(-healthy // max(config.healthy_every, 1))

"""What is not used of a source, and when a source or a dataset is refused as a whole.

A dry run and the run itself refuse the same, so that both leave with the same exit code.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lungforge.datasets import Manifest
from lungforge.errors import ContentError, InputError
from services.common.progress import say
from services.preprocess.config import PreprocessConfig


@dataclass(frozen=True)
class Rejection:
    """Something of the source that is not used, and why."""

    series_uid: str
    """The series; for a table its file name."""
    reason: str

    def report(self, *, strict: bool) -> None:
        """Say it; or, where nothing may be bad, raise it as an InputError."""
        if strict:
            raise InputError(f"{self.series_uid}: {self.reason}")
        say(f"rejected: {self.series_uid}: {self.reason}")


@dataclass(frozen=True)
class OutsideAnnotation:
    """An annotation that lies outside its volume, which is used with its other nodules."""

    series_uid: str
    reason: str
    """Names the series, and where the annotation and the volume lie."""

    def report(self, *, strict: bool) -> None:
        """As of a ``Rejection``."""
        if strict:
            raise InputError(self.reason)
        say(f"{self.reason}; its other nodules are used")


def no_good_volume(config: PreprocessConfig, rejected: Sequence[Rejection]) -> InputError:
    """The error for a source that holds nothing of use."""
    first = (
        f"; the first of {len(rejected)}: {rejected[0].series_uid}: {rejected[0].reason}" if rejected else ""
    )
    return InputError(f"{config.source}: there is no good volume{first}")


def require_images(
    config: PreprocessConfig, shapes: Sequence[tuple[int, int] | None], rejected: Sequence[Rejection]
) -> None:
    """Refuse a source that would give no dataset.

    Args:
        config: The job.
        shapes: Of each good volume, H and W of its images; None if it gives none.
        rejected: What is bad.

    Raises:
        InputError: No volume is good, none gives an image, or the images have different sizes.
    """
    if not shapes:
        raise no_good_volume(config, rejected)
    sizes = sorted({shape for shape in shapes if shape})
    if not sizes:
        raise InputError(
            f"{config.source}: no slice of {len(shapes)} volumes shows a nodule of at least "
            f"{config.minimum_diameter_mm:g} mm; take others by --healthy-every or --slices all"
        )
    if len(sizes) > 1:
        raise InputError(
            f"{config.source}: the images have different sizes ({sizes}); give them one by --size"
        )


def require_kept(config: PreprocessConfig, finished: Manifest | None, parts: Collection[str]) -> None:
    """Retrying what is rejected must not cost a finished dataset any of its volumes.

    Args:
        config: The job.
        finished: The dataset.
        parts: The names of the parts that are to take the place of its own.

    Raises:
        ContentError: One is missing.
    """
    lost = {part.name for part in finished.parts} - set(parts) if finished else set()
    if lost:
        raise ContentError(
            f"{config.source}: of the volumes that {config.out} holds, {len(lost)} bad or gone now "
            f"(the first is {min(lost)}); the dataset stays as it is"
        )

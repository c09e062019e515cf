"""What ``lungforge preprocess`` made."""

import dataclasses


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
    """The bad volumes and tables: series_uid and reason of each."""
    annotations_outside: tuple[dict[str, str], ...] = ()
    """Annotations that lie outside their volume, whose other nodules are used: series_uid and reason."""
    dry_run: bool = False

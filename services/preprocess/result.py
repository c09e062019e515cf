"""What ``lungforge preprocess`` made."""

import dataclasses
import shlex


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

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        if self.dry_run:
            return ()
        return (f"lungforge show {shlex.quote(self.uri)} --sheet slices.png",)

"""Following a manifest to the datasets that it names, which may be anyone's.

A manifest from elsewhere decides which places its reader asks for, so only stores that a user would expect
are asked: the local disk, S3, the package itself, and the store where the user's own dataset lies. What is
found counts only with the sha256 that the child names. The walk has no recursion, opens no dataset twice, and
ends.
"""

import dataclasses
import enum
from collections.abc import Iterator

from lungforge.datasets.dataset import Dataset
from lungforge.datasets.manifest import Parent
from lungforge.datasets.schemas import Kind
from lungforge.errors import InputError

#: Schemes of URIs that are followed from anywhere.
_SCHEMES = frozenset({"file", "s3", "lungforge"})
#: Where a walk ends: a lineage of LungForge has three generations.
MAX_GENERATIONS, MAX_ANCESTORS = 16, 1000


class Finding(enum.Enum):
    """What was found at the URI of a parent."""

    SAME = "as it was"
    CHANGED = "another dataset"
    GONE = "no dataset"
    UNREACHABLE = "cannot be read now"
    NOT_FOLLOWED = "a scheme that is not followed"
    TOO_DEEP = "beyond the limit of a walk"


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """A step of a walk.

    Attributes:
        generation: 0 for a parent of the dataset where the walk began.
        parent: What the child says.
        finding: What is there.
        sha256: Of the manifest that is there; None where none was read.
    """

    generation: int
    parent: Parent
    finding: Finding
    sha256: str | None = None


def may_follow(uri: str, root: str) -> bool:
    """Whether the URI in a manifest may be opened for a user who named the dataset at ``root``."""
    return _schemes(uri) <= _SCHEMES | _schemes(root)


def find_parent(parent: Parent, root: str, kind: Kind | None = None) -> tuple[Finding, Dataset | None]:
    """Open the dataset that a manifest names.

    Args:
        parent: What the manifest says.
        root: URI of the dataset that the user named.
        kind: What it must hold; None for anything.

    Returns:
        What was found; with the dataset where it is as it was, or another one.

    Raises:
        AccessError: It cannot be read now.
    """
    if not may_follow(parent.uri, root):
        return Finding.NOT_FOLLOWED, None
    try:
        dataset = Dataset.open(parent.uri, kind)
    except InputError:
        return Finding.GONE, None
    same = dataset.manifest_sha256 == parent.sha256 and dataset.manifest.kind is parent.kind
    return (Finding.SAME if same else Finding.CHANGED), dataset


def ancestors(dataset: Dataset) -> Iterator[Ancestor]:
    """All ancestors of a dataset, each before its own parents; those of a dataset are followed once."""
    pending = [(0, parent) for parent in reversed(dataset.manifest.parents)]
    followed = {dataset.manifest_sha256}
    seen: dict[Parent, tuple[Finding, str | None]] = {}
    for _ in range(MAX_ANCESTORS):
        if not pending:
            return
        generation, parent = pending.pop()
        if parent in seen:
            yield Ancestor(generation, parent, *seen[parent])
            continue
        try:
            finding, found = find_parent(parent, dataset.uri)
        except OSError:
            finding, found = Finding.UNREACHABLE, None
        if finding is Finding.SAME and found is not None and parent.sha256 not in followed:
            followed.add(parent.sha256)
            above = found.manifest.parents
            if above and generation + 1 == MAX_GENERATIONS:
                finding = Finding.TOO_DEEP
            else:
                pending += [(generation + 1, each) for each in reversed(above)]
        seen[parent] = (finding, None if found is None else found.manifest_sha256)
        yield Ancestor(generation, parent, *seen[parent])
    if pending:
        yield Ancestor(*pending[-1], Finding.TOO_DEEP)


def _schemes(uri: str) -> set[str]:
    """The schemes of a URI; several where fsspec chains file systems by ``::``."""
    if uri.startswith("/") and "::" not in uri:
        return {"file"}
    return {piece.split(":", 1)[0] for piece in uri.split("::")}

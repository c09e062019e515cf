"""The sets that ``lungforge.evaluate`` compares: their slices, and what to know about them beforehand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from lungforge.api.measures import Measured
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.lineage import find_parent
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.metrics.leakage import find_leak

if TYPE_CHECKING:
    from lungforge.api.slices import SlicesDataset

    #: What ``open_slices`` gives or would open, or rows of it.
    Slices: TypeAlias = str | SlicesDataset | Sequence[SliceRow]

#: Below so many slices or scans of a side, a difference must be large to be seen.
_FEW_SLICES: Final = 50
_FEW_SCANS: Final = 10


def rows_of(slices: "Slices") -> list[SliceRow]:
    """All slices as rows.

    Raises:
        InputError: They are no slices.
    """
    if isinstance(slices, str):
        from lungforge.api.slices import open_slices

        return open_slices(slices).rows()
    given = slices.rows() if hasattr(slices, "rows") else slices
    rows = list(given) if isinstance(given, Sequence) else []
    if not rows or not all(isinstance(row, SliceRow) for row in rows):
        raise InputError(
            f"a {type(slices).__name__} holds no slices; give a URI, what lungforge.open_slices gave, or "
            "rows of it"
        )
    return rows


def notes_on_size(real: Measured, synthetic: Measured) -> list[str]:
    """What to know about the size of the sets."""
    notes = []
    fewest = min(len(real.rows), len(synthetic.rows))
    scans = min(len(set(real.scans)), len(set(synthetic.scans)))
    if fewest < _FEW_SLICES or scans < _FEW_SCANS:
        notes.append(
            f"the smaller side has {fewest} slices, and {scans} scans: only large differences can be "
            "seen, and distances mean something beside their baseline only"
        )
    return notes


def notes_on_leaks(
    real: Measured, synthetic: Measured, training: Sequence[SliceRow], given: "Slices"
) -> list[str]:
    """What to know about scans that are on both sides, or that the generator has seen."""
    trained, notes = _trained_on(given)
    trained += [row.series_uid for row in training]
    leak = find_leak(real.scans, synthetic.scans, trained)
    if leak.sources:
        notes.append(
            f"{len(leak.sources)} scans are on both sides: synthetic slices have the maps of real ones that "
            "they are compared with, which makes them look better than they are"
        )
    if leak.training:
        notes.append(
            f"{len(leak.training)} of the real scans are among those that the generator was trained on: not "
            "held out, so that the slices look better than they are"
        )
    return notes


def _trained_on(given: "Slices") -> tuple[list[str], list[str]]:
    """The scans that the model behind samples was trained on; a note where they are not known."""
    if isinstance(given, str):
        dataset = Dataset.open(given)
    elif isinstance(given, Sequence):
        return [], []
    else:
        dataset = given.index.dataset
    scans: list[str] = []
    for parent in dataset.manifest.parents:
        if parent.kind is not Kind.MODEL:
            continue
        try:
            _, model = find_parent(parent, dataset.uri, Kind.MODEL)
        except OSError:
            model = None
        uids = None if model is None else model.manifest.details.get("series_uids")
        if not isinstance(uids, list) or not uids:
            return [], [f"the scans that the model {parent.uri} was trained on are not known"]
        scans += map(str, uids)
    return scans, []

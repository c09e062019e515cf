"""What the measures need of real slices with planted faults; kept for the next run."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted_faults import COPIES, Plant
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets.slices import SliceRow
from lungforge.metrics.features import EFFICIENTNET_LITE0, Extractor, load_extractor
from lungforge.metrics.fidelity import class_medians, nodule_contrasts
from lungforge.metrics.near_duplicates import Query
from lungforge.metrics.radiomics import FEATURES, radiomic_features_of
from lungforge.randomness import numpy_generator
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.files import read_if_there
from services.common.progress import progress

_FIELDS: Final = ("features", "radiomics", "medians", "contrasts", "copies")


@dataclass(frozen=True)
class MeasuredRows:
    """What the measures need of some slices.

    Attributes:
        features: Of the network, float32 ``[N, D]``.
        radiomics: float32 ``[N, F]``.
        medians: HU of each class, float32 ``[N, 6]``.
        contrasts: Mean contrast of each slice's nodules, float64 ``[N]``; NaN without any.
        copies: Whether the slice, beside the one that it was made from, is a near-duplicate; bool ``[N]``.
    """

    features: NDArray[np.float32]
    radiomics: NDArray[np.float32]
    medians: NDArray[np.float32]
    contrasts: NDArray[np.float64]
    copies: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> "MeasuredRows":
        """Some of the slices."""
        return MeasuredRows(*(getattr(self, name)[rows] for name in _FIELDS))

    def join(self, other: "MeasuredRows") -> "MeasuredRows":
        """These slices and others."""
        return MeasuredRows(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in _FIELDS)
        )


def measure_rows(
    rows: Sequence[SliceRow], plants: Mapping[str, Plant | None], seed: int, cache: str | None
) -> dict[str, MeasuredRows]:
    """Plant each fault in all slices, and measure them.

    Args:
        rows: The slices.
        plants: Faults by their names; None for no fault.
        seed: Of the random faults, with the slice's name.
        cache: Folder or URI where the result is kept; nowhere for None.
    """
    extractor = load_extractor(EFFICIENTNET_LITE0)
    measured = {}
    with progress("planted faults", len(plants), unit="faults") as advance:
        for name, plant in plants.items():
            planted = list(rows)
            if plant is not None:
                planted = [
                    plant(row, numpy_generator(seed, "fault", name, row.series_uid, row.slice_index))
                    for row in rows
                ]
            originals = rows if name in COPIES else None
            place = (
                None if cache is None else join_uri(cache, f"{_digest(planted, originals, extractor)}.npz")
            )
            kept = None if place is None else read_if_there(place)
            if kept is None:
                measured[name] = _measure(planted, originals, extractor)
                if place is not None:
                    write_bytes_atomic(place, _encode(measured[name]))
            else:
                with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
                    measured[name] = MeasuredRows(*(arrays[field] for field in _FIELDS))
            advance()
    return measured


def _measure(
    rows: Sequence[SliceRow], originals: Sequence[SliceRow] | None, extractor: Extractor
) -> MeasuredRows:
    hu, labels = np.stack([row.image for row in rows]), np.stack([row.label for row in rows])
    contrasts = [nodule_contrasts(row.image, row.label, row.spacing_mm) for row in rows]
    return MeasuredRows(
        features=extractor.embed(hu),
        radiomics=radiomic_features_of(hu, labels, [row.spacing_mm for row in rows]),
        medians=class_medians(hu, labels),
        contrasts=np.array([np.mean(values) if values else np.nan for values in contrasts]),
        copies=np.full(len(rows), False) if originals is None else _recognised(rows, originals),
    )


def _recognised(rows: Sequence[SliceRow], originals: Sequence[SliceRow]) -> NDArray[np.bool_]:
    """Whether each slice is a near-duplicate of its original."""
    results = []
    for row, original in zip(rows, originals, strict=True):
        query = Query.of(hu_to_uint8(row.image), row.label)
        _, resemblance = query.resemblance([query.whole(hu_to_uint8(original.image), original.label)])
        results.append(resemblance.is_near_duplicate)
    return np.array(results)


def _digest(rows: Sequence[SliceRow], originals: Sequence[SliceRow] | None, extractor: Extractor) -> str:
    """Of all that decides the result."""
    state = hashlib.sha256(repr((extractor.description, FEATURES, originals is None)).encode())
    for row in rows:
        state.update(repr((row.series_uid, row.slice_index, row.spacing_mm, row.image.shape)).encode())
        state.update(row.image.tobytes())
        state.update(row.label.tobytes())
    return state.hexdigest()


def _encode(measured: MeasuredRows) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: getattr(measured, name) for name in _FIELDS})
    return file.getvalue()

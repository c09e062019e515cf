"""Detection over whole scans, from the boxes of slices to scores, and what cannot be scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.errors import InputError
from lungforge.metrics.froc import DRAWS
from services.eval.config import EvalConfig
from services.eval.downstream.examples import examples_of, read_rows
from services.eval.downstream.froc import (
    excluded_findings,
    network_sensitivities,
    read_test_slices,
    require_whole_scans,
)
from tests.factories import nodule_at, slice_row


def _rows(
    series: str, indices: Sequence[int], nodules: Sequence[dict[str, float]] = (), subset: int = 3
) -> Any:
    """Slices 2 mm apart of pixels of 0.5 mm; the nodules cross slices 1 to 3."""
    return [
        slice_row(
            series_uid=series,
            subset=subset,
            slice_index=index,
            z_mm=2.0 * index - 100,
            spacing_mm=[0.5, 0.5],
            nodules=list(nodules) if 1 <= index <= 3 else [],
            image=np.zeros((64, 64), np.int16),
        )
        for index in indices
    ]


def _dataset(folder: Path, *series: Any, details: dict[str, Any] | None = None, **config: Any) -> Dataset:
    writer = DatasetWriter(str(folder / "slices"), Kind.SLICES, config)
    parts = [
        writer.write_part(f"{number}", table_from_rows(Kind.SLICES, rows))
        for number, rows in enumerate(series)
    ]
    writer.commit(parts, details or {})
    return Dataset.open(writer.uri)


NODULE = nodule_at(20, 30, 10, 5)


@pytest.fixture
def scans(tmp_path: Path) -> Dataset:
    """Two test scans, one with a nodule, and a scan of another subset between them; z not in order."""
    return _dataset(
        tmp_path, _rows("a", (4, 3, 2, 1, 0), [NODULE]), _rows("b", range(5), subset=0), _rows("c", range(5))
    )


def _box(x: float, y: float, score: float) -> tuple[float, ...]:
    """A box of 8 px around a pixel."""
    return (x + 0.5 - 4, y + 0.5 - 4, 8, 8, score)


def _score(
    scans: Dataset, boxes: dict[tuple[str, int], list[tuple[float, ...]]]
) -> tuple[list[float], float]:
    slices = read_test_slices(scans, (3,))
    detections = []
    for each in slices:
        values = np.asarray(boxes.get((each.series_uid, each.slice_index), []), dtype=np.float64).reshape(
            -1, 5
        )
        detections.append((values[:, :4], values[:, 4]))
    values, candidates = network_sensitivities(slices, detections, excluded_findings(scans) or [], seed=0)
    assert values.shape == (DRAWS + 1, 7)
    return values[0].tolist(), candidates


def test_test_slices_come_in_the_order_that_networks_are_tested_in(scans: Dataset) -> None:
    slices = read_test_slices(scans, (3,))
    examples = examples_of(read_rows(scans, (3,)))
    assert tuple(each.series_uid for each in slices) == examples.scans == ("a",) * 5 + ("c",) * 5
    assert [each.slice_index for each in slices] == [4, 3, 2, 1, 0, 0, 1, 2, 3, 4]
    assert (
        [len(each.nodules) for each in slices[:5]]
        == [len(each) for each in examples.boxes[:5]]
        == [0, 1, 1, 1, 0]
    )


def test_boxes_on_the_nodule_in_every_slice_are_one_hit(scans: Dataset) -> None:
    values, candidates = _score(scans, {("a", index): [_box(20, 30, 0.5)] for index in (1, 2, 3)})
    assert (values, candidates) == ([1.0] * 7, 0.5)


def test_a_false_positive_before_the_hit_costs_half_a_one_a_scan(scans: Dataset) -> None:
    """Two scans, one false positive: 0.5 a scan, from which the nodule is detected."""
    boxes = {("a", 2): [_box(20, 30, 0.5)], ("c", 0): [_box(10, 10, 0.9)], ("c", 1): [_box(10, 10, 0.8)]}
    assert _score(scans, boxes) == ([0, 0, 1, 1, 1, 1, 1], 1.0)


@pytest.mark.parametrize(
    ("x", "index", "hit"), [(24.9, 2, True), (25.1, 2, False), (20, 1, True), (20, 0, False)]
)
def test_a_hit_is_within_the_radius_in_mm(scans: Dataset, x: float, index: int, hit: bool) -> None:
    """The radius is 2.5 mm: 5 px, or more than one slice and less than two."""
    values, _ = _score(scans, {("a", index): [_box(x, 30, 0.5)]})
    assert values[-1] == float(hit)


def test_candidates_on_excluded_findings_are_ignored(tmp_path: Path) -> None:
    """The finding lies where the false positive is: x and y of pixel 10, the height of slice 0."""
    rows = [_rows("a", range(5), [NODULE]), _rows("c", range(5))]
    boxes = {("a", 2): [_box(20, 30, 0.5)], ("c", 0): [_box(10, 10, 0.9)]}
    assert _score(_dataset(tmp_path / "unknown", *rows), boxes)[0] == [0, 0, 1, 1, 1, 1, 1]
    details = {"excluded_findings": {"c": [[5.0, 5.0, -100.0, 3.0]], "b": []}}
    known = _dataset(tmp_path / "known", *rows, details=details)
    assert _score(known, boxes)[0] == [1.0] * 7


def test_whole_scans_are_taken(scans: Dataset) -> None:
    require_whole_scans(scans, (3,), None)


@pytest.mark.parametrize(
    ("rows", "config", "message"),
    [
        (_rows("a", (0, 1, 3), [NODULE]), {}, r"1 of 1 lack some, first a with 3; .* --slices all"),
        (_rows("a", (1, 2, 3), [NODULE]), {}, r"1 of 1 lack some, first a with 3"),
        (_rows("a", range(5), [NODULE]), {"slices": "nodules"}, r"was made with --slices nodules; make"),
        (_rows("a_z012", (0,), [NODULE]) + _rows("a_z019", (0,)), {}, r"1 of 1 lack some, first a with 2"),
        (_rows("a", range(5)), {"slices": "all"}, r"needs nodules in the test scans"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(
    tmp_path: Path, rows: Any, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        require_whole_scans(_dataset(tmp_path, rows, **config), (3,), None)


def test_patches_are_refused(scans: Dataset) -> None:
    with pytest.raises(InputError, match="the synthetic slices are patches of 32 px"):
        require_whole_scans(scans, (3,), 32)


@pytest.mark.parametrize(
    "changes", [{}, {"downstream": "tiny", "train_subsets": (0,), "tasks": ("classification",)}]
)
def test_it_needs_networks_for_localisation(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"--froc scores networks for localisation; give --downstream tiny"):
        EvalConfig(real="a", synthetic=("b",), out="c", froc=True, **changes)

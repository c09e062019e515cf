"""Pairs are of one scan, and a slice beside its copy is a near-duplicate."""

import numpy as np

from benchmarks.neighbouring_slices import pairs
from lungforge.ct import classes
from lungforge.datasets.slices import SliceRow


def _row(scan: str, seed: int) -> SliceRow:
    label = np.zeros((64, 64), np.uint8)
    label[6:58, 4:60] = classes.BODY
    hu = np.random.default_rng(seed).normal(0, 100, label.shape) * (label > 0)
    return SliceRow(scan, 0, 0, (5.0, 5.0), hu.astype(np.int16), label, ())


def test_pairs_within_20_mm_of_one_scan() -> None:
    rows = [_row("a", 0), _row("a", 0), _row("a", 1), _row("a", 0), _row("b", 0)]
    found = pairs(rows, [0.0, 2.5, 5.0, 20.5, 1.0])
    assert [apart for apart, _, _ in found] == [2.5, 5.0, 2.5, 18.0, 15.5]
    assert [is_one for _, is_one, _ in found] == [True, False, False, True, False]

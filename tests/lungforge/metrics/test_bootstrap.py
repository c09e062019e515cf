"""The bootstrap over scans: slices of a scan stay together."""

import numpy as np
import pytest

from lungforge.metrics.bootstrap import scan_weights


def test_slices_of_a_scan_are_resampled_together() -> None:
    weights = scan_weights(["a", "b", "a", "c"], 500, np.random.default_rng(0))
    assert weights.shape == (501, 4)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    # As many scans as there are, however many slices each has.
    assert (weights[1:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights[1:, 1].mean() == pytest.approx(1.0, abs=0.1)

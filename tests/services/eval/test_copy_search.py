"""The search for near-duplicates in the slices that Ray's object store holds."""

import dataclasses

import numpy as np
import pytest
import ray

from lungforge.datasets.patches import Cut
from lungforge.metrics.near_duplicates import thumbnails
from lungforge.metrics.patch_search import cells
from services.eval.copy_search import NOBODY, Place, most_like
from services.eval.records import RealPool
from tests.lungforge.metrics.test_near_duplicates import rendered, thorax_map

pytestmark = pytest.mark.ray

LABEL = thorax_map(128)
SLICES = np.stack([rendered(LABEL, seed, grain=1.3) for seed in range(6)])


def pool_of(cut=None):
    """Six slices in two parts; the last two are of one patient."""
    parts = [SLICES[:2], SLICES[2:]]
    nothing = np.zeros((6, 0), np.float32)
    return RealPool(
        keys=tuple((f"scan-{index}", 0) for index in range(6)),
        patients=np.array([0, 1, 2, 3, 4, 4]),
        thumbnails=thumbnails(SLICES) if cut is None else nothing,
        rows=np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [1, 3]]),
        cut=cut,
        images=tuple(ray.put(np.stack([part, np.tile(LABEL, (len(part), 1, 1))], axis=1)) for part in parts),
        cells=() if cut is None else tuple(ray.put(cells(part, cut.size)) for part in parts),
    )


def search(pool, grey, label, *, source=None, patient=NOBODY):
    (found,) = most_like(
        grey[None], label[None], pool, sources=[source], patients=np.array([patient], dtype=np.int64)
    )
    return found


def test_a_mirrored_slice_is_detected_in_the_other_part(ray_local):
    place, resemblance = search(pool_of(), SLICES[3][:, ::-1], LABEL, source=(("scan-0", 0), (0, 0)))
    assert place == Place(3)
    assert resemblance.mirrored
    assert resemblance.is_near_duplicate


def test_slices_of_the_same_patient_are_left_out(ray_local):
    pool = pool_of()
    place, resemblance = search(pool, SLICES[5], LABEL, patient=4)
    assert place.index < 4
    assert not resemblance.is_near_duplicate
    assert search(pool, SLICES[5], LABEL, patient=0)[0] == Place(5)


@pytest.mark.parametrize("corner", [(3, 60), (41, 22), (64, 7)])
def test_a_patch_is_detected_wherever_it_is_from(ray_local, corner):
    pool = pool_of(Cut(64, 0))
    cut = np.s_[corner[0] : corner[0] + 64, corner[1] : corner[1] + 64]
    place, resemblance = search(pool, SLICES[4][cut], LABEL[cut], source=(("scan-1", 0), (20, 20)))
    assert place.index == 4
    assert np.abs(np.subtract(place.corner, corner)).max() <= 2
    assert resemblance.correlation > 0.99
    np.testing.assert_array_equal(pool.image(4, corner), SLICES[4][cut])
    assert not search(pool, SLICES[4][cut], LABEL[cut], patient=4)[1].is_near_duplicate


def test_where_all_slices_are_of_one_patient_none_is_left(ray_local):
    pool = pool_of()
    alone = dataclasses.replace(pool, patients=np.zeros(6, np.int64))
    assert search(alone, SLICES[0], LABEL, patient=0) is None

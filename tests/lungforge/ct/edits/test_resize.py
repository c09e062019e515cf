import numpy as np
import pytest
from scipy import ndimage

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, TRACHEA
from lungforge.ct.edits.edited_map import EditedMap
from lungforge.ct.edits.resize import FACTORS, resize


def disc(label: np.ndarray, x: float, y: float, radius: float) -> dict[str, float]:
    rows, columns = np.indices(label.shape)
    label[np.hypot(columns - x, rows - y) <= radius] = NODULE
    return {"x": x, "y": y, "diameter_px": 2 * radius, "diameter_mm": 3 * radius}


def seeds(label: np.ndarray, nodules: list, count: int) -> list[EditedMap | None]:
    return [resize(label, nodules, generator=np.random.default_rng(seed)) for seed in range(count)]


def test_the_factor_is_spread_evenly_over_its_logarithm() -> None:
    label = np.full((64, 64), LEFT_LUNG, np.uint8)
    nodule = disc(label, 31.25, 32.0, 10)
    before = (label == NODULE).sum()
    logarithms = []
    for each in seeds(label, [nodule], 300):
        (new,) = each.nodules
        factor = new["diameter_mm"] / 30
        logarithms.append(np.log(factor))
        assert (new["x"], new["y"]) == (31.25, 32.0)
        assert new["diameter_px"] == pytest.approx(20 * factor)
        assert (each.label == NODULE).sum() == round(before * factor**2)
        centre = ndimage.center_of_mass(each.label == NODULE)
        np.testing.assert_allclose(centre, ndimage.center_of_mass(label == NODULE), atol=0.3)
    # Of 300 values spread evenly from ln 0.6 to ln 1.6, to within four standard errors.
    assert np.mean(logarithms) == pytest.approx(np.log(0.6 * 1.6) / 2, abs=4 * 0.283 / np.sqrt(300))
    assert np.std(logarithms) == pytest.approx(np.log(1.6 / 0.6) / np.sqrt(12), rel=0.12)
    assert (FACTORS.min(), FACTORS.max()) == (0.6, 1.6)
    assert np.diff(np.log(FACTORS)) == pytest.approx(0.01, rel=0.01)


def test_a_nodule_inside_grows_as_far_as_it_stays_inside() -> None:
    label = np.full((31, 31), BODY, np.uint8)
    label[8:23, 8:23] = LEFT_LUNG  # 7 pixels to each side of the middle
    nodule = disc(label, 15, 15, 5)
    factors = [each.nodules[0]["diameter_px"] / 10 for each in seeds(label, [nodule], 200)]
    # Its outermost pixels reach 5.5 from the middle; 6.5 are inside with a pixel of lung around: a factor of
    # 1.18, and less than half a pixel more by rounding.
    assert 1.15 < max(factors) < 6.99 / 5.5
    assert min(factors) < 0.65
    for each in seeds(label, [nodule], 50):
        around = ndimage.binary_dilation(each.label == NODULE, np.ones((3, 3))) & (each.label != NODULE)
        assert (each.label[around] == LEFT_LUNG).all()


def test_a_nodule_at_the_wall_grows_into_its_lung_only() -> None:
    label = np.full((40, 40), BODY, np.uint8)
    label[:, 15:] = LEFT_LUNG
    label[:5] = TRACHEA
    before = label.copy()
    nodule = disc(label, 16, 18, 4)  # reaches to column 12
    wall = label[:, :15] == NODULE
    factors = []
    for each in seeds(label, [nodule], 100):
        factors.append(each.nodules[0]["diameter_px"] / 8)
        shown = each.label == NODULE
        assert not (shown[:, :15] & ~wall).any()
        np.testing.assert_array_equal(each.label[:5], before[:5])
        if factors[-1] > 1.2:
            assert shown[:, :15].sum() == wall.sum()  # it keeps what it has of the wall
            assert shown[:, 15:].sum() > (label[:, 15:] == NODULE).sum()
        if factors[-1] < 0.8:
            assert (each.label[(label == NODULE) & ~shown] == LEFT_LUNG).all()
    assert min(factors) < 0.65
    assert max(factors) > 1.55


def test_a_nodule_does_not_grow_through_a_wall() -> None:
    label = np.full((30, 30), LEFT_LUNG, np.uint8)
    label[:, 13] = BODY
    nodule = disc(label, 8.6, 15, 4)  # to column 12; times 1.6 to column 15, in two pieces
    results = seeds(label, [nodule], 100)
    assert not any((each.label[:, 13:] == NODULE).any() for each in results)
    assert 1.2 < max(each.nodules[0]["diameter_px"] for each in results) / 8 < 1.45


def test_a_nodule_beside_another_leaves_it_its_pixels() -> None:
    label = np.full((40, 40), LEFT_LUNG, np.uint8)
    nodules = [disc(label, 14, 20, 4), disc(label, 23, 20, 4)]
    np.testing.assert_array_equal(label[20, 10:28] == NODULE, [True] * 18)
    for each in seeds(label, nodules, 60):
        index = 0 if each.nodules[0] != nodules[0] else 1
        assert each.nodules[1 - index] == nodules[1 - index]
        other = np.s_[:, 19:] if index == 0 else np.s_[:, :19]
        np.testing.assert_array_equal(each.label[other] == NODULE, label[other] == NODULE)


def test_a_nodule_of_one_pixel_grows_by_whole_pixels() -> None:
    label = np.full((9, 9), LEFT_LUNG, np.uint8)
    label[4, 4] = NODULE
    nodule = {"x": 4.1, "y": 3.9, "diameter_px": 0.4, "diameter_mm": 4.5}
    for each in seeds(label, [nodule], 50):
        factor = each.nodules[0]["diameter_mm"] / 4.5
        # It cannot get smaller, and to get larger its pixel must count for one and a half.
        assert factor**2 > 1.5
        assert (each.label == NODULE).sum() == round(factor**2)


def test_a_nodule_in_no_lung_can_only_shrink_and_leaves_body() -> None:
    label = np.full((30, 30), BODY, np.uint8)
    nodule = disc(label, 15, 15, 4)
    for each in seeds(label, [nodule], 30):
        assert each.nodules[0]["diameter_px"] < 8
        assert set(np.unique(each.label)) == {BODY, NODULE}
        assert not (each.label[label == BODY] == NODULE).any()


def test_a_nodule_that_the_edge_cuts_keeps_its_size() -> None:
    label = np.full((20, 20), LEFT_LUNG, np.uint8)
    nodule = disc(label, 1, 10, 3)
    assert seeds(label, [nodule], 1) == [None]

"""Properties of every edit, checked by brute force: on generated maps, on phantoms, and on LUNA16."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lungforge.ct.classes import BACKGROUND, BODY, LEFT_LUNG, NODULE, RIGHT_LUNG, TRACHEA
from lungforge.ct.edits import EDITS, EditedMap, EditName, edit_map, edits_for
from lungforge.errors import InputError

LUNGS = (LEFT_LUNG, RIGHT_LUNG)
EIGHT = np.ones((3, 3), bool)
DIAMETERS_MM = np.array([3.2, 4.0, 4.0, 5.5, 7.1, 9.8, 14.0, 22.0])


@dataclass(frozen=True)
class Map:
    label: np.ndarray
    nodules: tuple[dict[str, float], ...]
    spacing_mm: tuple[float, float]


@st.composite
def generated_maps(draw: st.DrawFn, most: int = 4) -> Map:
    """Two lungs in a body, a trachea, and nodules anywhere: apart, touching, overlapping, at the wall."""
    height, width = draw(st.integers(20, 60)), draw(st.integers(20, 60))
    spacing = (draw(st.floats(0.5, 6)), draw(st.floats(0.5, 6)))
    rows, columns = np.mgrid[:height, :width]
    label = np.full((height, width), BACKGROUND, np.uint8)

    def ellipse(y: float, x: float, down: float, across: float) -> np.ndarray:
        return ((rows / height - y) / down) ** 2 + ((columns / width - x) / across) ** 2 <= 1

    label[ellipse(0.5, 0.5, 0.5, 0.5)] = BODY
    label[ellipse(0.5, 0.28, draw(st.floats(0.1, 0.4)), draw(st.floats(0.05, 0.2)))] = RIGHT_LUNG
    label[ellipse(0.5, 0.72, draw(st.floats(0.1, 0.4)), draw(st.floats(0.05, 0.21)))] = LEFT_LUNG
    label[ellipse(0.4, 0.5, 0.06, 0.06)] = TRACHEA
    random = np.random.default_rng(draw(st.integers(0, 9999)))
    nodules = []
    for _ in range(draw(st.integers(0, most))):
        places = np.argwhere(np.isin(label, (*LUNGS, NODULE)))
        y, x = places[random.integers(len(places))] + random.uniform(-0.5, 0.5, 2)
        radius = random.uniform(0.2, 5)
        disc = np.hypot(rows - y, columns - x) <= radius
        disc[min(round(y), height - 1), min(round(x), width - 1)] = True
        label[disc] = NODULE
        mm = math.sqrt(spacing[0] * spacing[1])
        nodules.append({"x": x, "y": y, "diameter_px": 2 * radius, "diameter_mm": 2 * radius * mm})
    return Map(label, tuple(nodules), spacing)


def edit(name: EditName, given: Map, seed: int = 0) -> EditedMap | None:
    return edit_map(
        name,
        given.label,
        given.nodules,
        spacing_mm=given.spacing_mm,
        generator=np.random.default_rng(seed),
        diameters_mm=DIAMETERS_MM,
    )


def pixels(label: np.ndarray, nodules: tuple[dict[str, float], ...]) -> list[np.ndarray]:
    """Of each nodule, the pixels to which it is the nearest in diameters."""
    rows, columns = np.nonzero(label == NODULE)
    masks = [np.zeros(label.shape, bool) for _ in nodules]
    for row, column in zip(rows, columns, strict=True):
        away = [math.hypot(column - one["x"], row - one["y"]) / one["diameter_px"] for one in nodules]
        masks[away.index(min(away))][row, column] = True
    return masks


def check_margin(given: Map, edited: EditedMap, mask: np.ndarray) -> None:
    """Nothing but one lung within 2 mm and among the neighbours of each pixel; past the edge is wall."""
    around = np.pad(edited.label, 1)
    around[1:-1, 1:-1][mask] = 255
    neighbours = ndimage.binary_dilation(around == 255, EIGHT) & (around != 255)
    (lung,) = np.unique(around[neighbours])
    assert lung in LUNGS
    walls = np.argwhere((around != lung) & (around != 255)) - 1
    nodule = np.argwhere(mask)
    away_mm = np.hypot(*((walls[:, None] - nodule) * given.spacing_mm).transpose(2, 0, 1))
    assert away_mm.min() > 2.0


def check(name: EditName, given: Map) -> EditedMap | None:
    """What holds of every edit; then what holds of this one."""
    label, nodules = given.label.copy(), tuple(dict(nodule) for nodule in given.nodules)
    edited = edit(name, given)
    np.testing.assert_array_equal(given.label, label)
    assert given.nodules == nodules
    if edited is None:
        return None
    assert (edited.edit, edited.label.dtype, edited.label.shape) == (name, np.uint8, label.shape)
    assert not np.shares_memory(edited.label, label)
    np.testing.assert_array_equal(edited.changed, edited.label != label)
    assert set(label[edited.changed]) <= {*LUNGS, NODULE}
    assert set(edited.label[edited.changed & (label != NODULE)]) <= {NODULE}
    assert set(edited.label[edited.changed & (label == NODULE)]) <= {*LUNGS, BODY}
    if edited.nodules:
        mine = pixels(edited.label, edited.nodules)
        assert all(mask.any() for mask in mine)
        assert np.any(mine, axis=0).sum() == (edited.label == NODULE).sum()
    else:
        assert not (edited.label == NODULE).any()
    return edited


def check_one_nodule_changed(given: Map, edited: EditedMap) -> tuple[int, np.ndarray, np.ndarray]:
    """The others are what and where they were; returns the index, and the pixels before and after."""
    shown = [
        (nodule, mask)
        for nodule, mask in zip(given.nodules, pixels(given.label, given.nodules), strict=True)
        if mask.any()
    ]
    after = pixels(edited.label, edited.nodules)
    assert len(shown) == len(edited.nodules)
    (index,) = [number for number, (nodule, _) in enumerate(shown) if nodule != edited.nodules[number]]
    for number, (_, mask) in enumerate(shown):
        if number != index:
            np.testing.assert_array_equal(mask, after[number])
    return index, shown[index][1], after[index]


def check_none(given: Map) -> None:
    edited = edit("none", given)
    assert edited is not None
    assert not edited.changed.any()
    np.testing.assert_array_equal(edited.label, given.label)
    assert not np.shares_memory(edited.label, given.label)
    assert edited.nodules == given.nodules


def check_move(given: Map) -> bool:
    edited = check("move", given)
    if edited is None:
        return False
    index, before, after = check_one_nodule_changed(given, edited)
    (old,) = [nodule for nodule in given.nodules if nodule not in edited.nodules and _has(given, nodule)]
    new = edited.nodules[index]
    right, down = new["x"] - old["x"], new["y"] - old["y"]
    assert (round(right, 9) % 1, round(down, 9) % 1) == (0, 0)
    offset = np.array([round(down), round(right)])
    np.testing.assert_array_equal(np.argwhere(before) + offset, np.argwhere(after))
    assert {**new, "x": 0, "y": 0} == {**old, "x": 0, "y": 0}
    assert not (before & after).any()
    (lung,) = set(edited.label[before])
    near = ndimage.binary_dilation(after, EIGHT) & ~after
    assert (edited.label[near] == lung).all()
    check_margin(given, edited, after)
    return True


def _has(given: Map, nodule: dict[str, float]) -> bool:
    return bool(pixels(given.label, given.nodules)[given.nodules.index(nodule)].any())


def check_resize(given: Map) -> bool:
    edited = check("resize", given)
    if edited is None:
        return False
    index, before, after = check_one_nodule_changed(given, edited)
    (old,) = [nodule for nodule in given.nodules if nodule not in edited.nodules and _has(given, nodule)]
    new = edited.nodules[index]
    factor = new["diameter_mm"] / old["diameter_mm"]
    assert 0.6 <= round(factor, 9) <= 1.6
    assert new["diameter_px"] == pytest.approx(old["diameter_px"] * factor)
    assert (new["x"], new["y"]) == (old["x"], old["y"])
    around = ndimage.binary_dilation(before, EIGHT) & ~before
    if set(given.label[around]) <= {LEFT_LUNG} or set(given.label[around]) <= {RIGHT_LUNG}:
        # It stays inside its lung, and so whole.
        assert after.sum() == max(round(before.sum() * factor**2), 1)
        assert set(edited.label[ndimage.binary_dilation(after, EIGHT) & ~after]) == set(given.label[around])
    assert (after.sum() > before.sum()) == (factor > 1)
    assert (after.sum() < before.sum()) == (factor < 1)
    assert (
        abs(after.sum() - before.sum()) <= abs(round(before.sum() * factor**2) - before.sum()) or factor < 1
    )
    # No pixel is farther from the centre than the scaling of the farthest, and the size of pixels.
    reach = [
        np.linalg.norm(np.argwhere(mask) - (old["y"], old["x"]), axis=1).max() for mask in (before, after)
    ]
    assert reach[1] <= factor * reach[0] + (1 + factor) * math.sqrt(0.5) + 1e-6
    assert ndimage.label(after, EIGHT)[1] <= ndimage.label(before, EIGHT)[1]
    return True


def check_remove(given: Map) -> Map:
    edited = check("remove", given)
    if not (given.label == NODULE).any():
        assert edited is None
        return given
    assert edited is not None
    assert edited.nodules == ()
    np.testing.assert_array_equal(edited.changed, given.label == NODULE)
    return Map(edited.label, (), given.spacing_mm)


def check_insert(given: Map) -> bool:
    edited = check("insert", given)
    if edited is None:
        return False
    (nodule,) = edited.nodules
    mask = edited.label == NODULE
    pixel_mm2 = given.spacing_mm[0] * given.spacing_mm[1]
    assert nodule["diameter_mm"] in DIAMETERS_MM
    assert nodule["diameter_px"] == pytest.approx(nodule["diameter_mm"] / math.sqrt(pixel_mm2))
    area = math.pi / 4 * nodule["diameter_mm"] ** 2 / pixel_mm2
    # Half a pixel is rounding's; the area of the fine outline is right to a few millionths.
    assert abs(mask.sum() - max(area, 1)) <= 0.5 + 1e-3
    assert ndimage.label(mask, EIGHT)[1] == 1
    away_mm = np.linalg.norm((np.argwhere(mask) - (nodule["y"], nodule["x"])) * given.spacing_mm, axis=1)
    assert away_mm.max() <= 0.7 * nodule["diameter_mm"] + np.linalg.norm(given.spacing_mm)
    check_margin(given, edited, mask)
    return True


def check_all(given: Map) -> list[bool]:
    """Hold all edits against a map; which of move, resize and insert had room?"""
    check_none(given)
    healthy = check_remove(given)
    return [check_move(given), check_resize(given), check_insert(healthy)]


@settings(max_examples=150, deadline=None)
@given(given=generated_maps())
def test_random_maps_are_edited_as_documented(given: Map) -> None:
    check_all(given)


def test_phantoms_are_edited_as_promised(phantom_maps: list[tuple]) -> None:
    maps = [Map(*each) for each in phantom_maps]
    ill = [check_all(each) for each in maps if each.nodules]
    healthy = [check_all(each)[2] for each in maps if not each.nodules]
    assert len(ill) >= 20
    moved, resized, _ = np.mean(ill, axis=0)
    assert moved > 0.9
    assert resized > 0.8
    assert np.mean(healthy) > 0.8


@pytest.mark.real_data
def test_real_slices_are_edited_as_promised(real_maps: list[tuple]) -> None:
    moved, resized, inserted = np.mean([check_all(Map(*each)) for each in real_maps], axis=0)
    assert moved > 0.98
    # At 32 px a pixel is 11 mm wide, and a nodule of one pixel at the wall has no shape to scale.
    assert resized > 0.85
    assert inserted > 0.98


@settings(max_examples=30, deadline=None)
@given(given=generated_maps(), seed=st.integers(0, 9))
def test_a_seed_decides_everything(given: Map, seed: int) -> None:
    for name in EDITS:
        once, again = edit(name, given, seed), edit(name, given, seed)
        assert (once is None) == (again is None)
        if once is not None and again is not None:
            np.testing.assert_array_equal(once.label, again.label)
            assert once.nodules == again.nodules


def test_a_slice_has_the_edits_that_apply_to_it() -> None:
    assert EDITS == ("none", "move", "resize", "insert", "remove")
    assert edits_for(has_nodules=True) == ("none", "move", "resize", "remove")
    assert edits_for(has_nodules=False) == ("none", "insert")


@settings(max_examples=40, deadline=None)
@given(given=generated_maps())
def test_an_edit_that_does_not_apply_gives_no_map(given: Map) -> None:
    for name in EDITS:
        if name not in edits_for(bool(given.nodules)):
            assert edit(name, given) is None


def test_an_unknown_edit_is_refused_with_the_known_ones() -> None:
    given = Map(np.full((8, 8), LEFT_LUNG, np.uint8), (), (1.0, 1.0))
    with pytest.raises(InputError, match="'turn'; choose one of none, move, resize, insert, remove"):
        edit("turn", given)  # type: ignore[arg-type]


def test_nothing_is_inserted_where_the_list_has_a_nodule() -> None:
    listed = {"x": 5.0, "y": 5.0, "diameter_px": 4.0, "diameter_mm": 4.0}
    given = Map(np.full((12, 12), LEFT_LUNG, np.uint8), (listed,), (1.0, 1.0))
    assert edit("insert", given) is None


def test_nodules_without_a_list_are_removed_and_nothing_else() -> None:
    label = np.full((12, 12), RIGHT_LUNG, np.uint8)
    label[0:2, 4:7] = NODULE  # the visible part of a nodule whose centre is past the edge
    given = Map(label, (), (1.0, 1.0))
    assert [name for name in EDITS if edit(name, given) is not None] == ["none", "remove"]

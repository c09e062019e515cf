import csv
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy import ndimage

from benchmarks.near_duplicates import KINDS
from lungforge.ct import classes
from lungforge.ct.window import hu_to_uint8
from lungforge.metrics.near_duplicates import Query, Resemblance, nearest, thumbnails

KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def thorax_map(size):
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    label = np.zeros((size, size), dtype=np.uint8)
    label[(columns / 0.46) ** 2 + (rows / 0.38) ** 2 < 1] = classes.BODY
    for side, lung in ((-1, classes.RIGHT_LUNG), (1, classes.LEFT_LUNG)):
        label[((columns - side * 0.2) / 0.14) ** 2 + (rows / 0.26) ** 2 < 1] = lung
    return label


def rendered(label, seed, *, grain=1.0, levels=15.0):
    """A slice that follows the map exactly, with texture of the seed, grey uint8."""
    grey = np.choose(label, [0, 190, 30, 30, 0, 180]).astype(float)
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=label.shape), grain)
    grey += (label > 0) * noise * (levels / noise.std())
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def by_pillow(grey, halving, enlargement):
    height, width = grey.shape
    small = Image.fromarray(grey).resize((width // 2, height // 2), KERNELS[halving])
    return np.asarray(small.resize((width, height), KERNELS[enlargement]))


def compare(grey, label, real, real_label=None):
    query = Query.of(grey, label)
    return query.resemblance([query.whole(real, label if real_label is None else real_label)])[1]


def hounsfield(grey):
    """HU whose grey values these are."""
    return (grey.astype(np.float32) * (1400 / 255) - 1000).astype(np.float32)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_copy_is_a_near_duplicate_and_another_texture_is_none(size, kind):
    label = thorax_map(size)
    real = rendered(label, 0, grain=1.3)
    copy = hu_to_uint8(np.rint(KINDS[kind](hounsfield(real), np.random.default_rng(1))).astype(np.int16))
    match = compare(copy, label, real)
    assert match.is_near_duplicate
    assert match.mirrored == ("mirrored" in kind or kind == "all of these")
    assert not compare(copy, label, rendered(label, 1, grain=1.3)).is_near_duplicate


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("halving", KERNELS)
@pytest.mark.parametrize("enlargement", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_a_real_slice_halved_and_enlarged_is_a_near_duplicate(size, halving, enlargement):
    label = thorax_map(size)
    real = rendered(label, 0, grain=1.5)
    assert compare(by_pillow(real, halving, enlargement), label, real).is_near_duplicate


def test_a_copy_is_detected_although_its_map_is_that_of_another_slice():
    label, real = thorax_map(128), rendered(thorax_map(128), 0, grain=1.3)
    wrong = np.roll(label, 6, axis=1)
    assert compare(real[:, ::-1], wrong, real, label).is_near_duplicate


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("levels", [2.0, 15.0])
def test_good_slices_from_the_same_map_are_no_duplicates(size, levels):
    label = thorax_map(size)
    real = rendered(label, 0, levels=levels)
    for seed in range(1, 5):
        match = compare(rendered(label, seed, levels=levels), label, real)
        assert abs(match.correlation) < 0.6


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("blur", [0.0, 0.7, 1.5])
def test_smooth_slices_from_the_same_map_are_no_duplicates_for_all_the_borders_they_share(size, blur):
    label = thorax_map(size)
    real = rendered(label, 0, levels=6.0)
    for seed in range(1, 4):
        smooth = ndimage.gaussian_filter(rendered(label, seed, levels=2.0).astype(float), blur)
        match = compare(np.rint(smooth).astype(np.uint8), label, real)
        assert not match.is_near_duplicate
        assert size == 32 or match.correlation < 0.5


def test_a_plain_correlation_would_accuse_what_only_follows_the_map():
    # Why the texture is compared: these two share nothing but their map.
    label = thorax_map(128)
    one, other = rendered(label, 0, levels=3), rendered(label, 1, levels=3)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.995
    assert compare(one, label, other).correlation < 0.5


def test_empty_and_flat_pictures_are_no_copies_of_one_another():
    black = np.zeros((64, 64), dtype=np.uint8)
    assert compare(black, np.zeros_like(black), black).correlation == 0
    flat = np.choose(thorax_map(64), [0, 190, 30, 30, 0, 180]).astype(np.uint8)
    assert not compare(flat, thorax_map(64), np.zeros_like(flat)).is_near_duplicate


def test_a_copy_from_a_larger_real_slice_is_detected():
    label = thorax_map(128)
    real = rendered(label, 0, grain=2.0)
    small = np.asarray(Image.fromarray(real).resize((64, 64), Image.Resampling.BOX))
    assert compare(small, thorax_map(64), real, label).is_near_duplicate


def test_the_most_similar_of_several_is_named():
    label = thorax_map(64)
    slices = [rendered(label, seed) for seed in range(6)]
    query = Query.of(slices[4][:, ::-1], label)
    best, match = query.resemblance([query.whole(one, label) for one in slices])
    assert best == 4
    assert match.correlation > 0.99


@pytest.mark.parametrize(
    ("resemblance", "words"),
    [
        (Resemblance(0.9), "as it is"),
        (Resemblance(0.9, mirrored=True), "mirrored"),
        (
            Resemblance(0.9, True, -2.04, 1.03, 2.5, -1.0),
            "mirrored, turned by -2.0°, zoomed by +3.0 %, moved by +2.5 px down, -1.0 px right",
        ),
        (Resemblance(0.9, False, 0.2, 1.004, 0.2, -0.2), "as it is"),
    ],
)
def test_what_was_done_to_the_real_slice_in_words(resemblance, words):
    assert resemblance.view == words


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x[:, ::-1], lambda x: np.roll(x, (3, -3), (0, 1))])
def test_the_search_ranks_the_slice_itself_first(change):
    pictures = np.stack([rendered(thorax_map(64), seed, grain=1.5) for seed in range(6)])
    small = thumbnails(pictures)
    for index in (4, 1):
        found = nearest(thumbnails(change(pictures[index])[None])[0], small, 3, 64)
        assert found.shape == (3,)
        assert found[0] == index
    assert nearest(small[0], small[:2], 3, 64).shape == (2,)


def test_thumbnails_have_unit_length():
    pictures = np.stack([rendered(thorax_map(256), seed) for seed in range(2)])
    np.testing.assert_allclose(np.linalg.norm(thumbnails(pictures), axis=1), 1, rtol=1e-5)


@pytest.mark.real_data
@pytest.mark.parametrize("step", [8, 4, 2])
def test_on_real_slices_every_kind_of_copy_is_detected_and_no_other_scan(step):
    """At 64, 128 and 256 px; ``python -m benchmarks.near_duplicates`` does it with all slices."""
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder:
        pytest.skip("LUNGFORGE_REAL_DATA does not name the folder of real slices")
    root = Path(folder, "luna16_mini")
    with (root / "annotations.csv").open(encoding="utf-8") as file:
        known = {row["seriesuid"] for row in csv.DictReader(file)}
    paths = [path for path in sorted(root.glob("subset*/*.mhd")) if path.stem in known][::30]
    assert len(paths) >= 10
    slices = []
    for path in paths:
        hu = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0].astype(np.float32)
        side = 512 // step
        slices.append(hu.reshape(side, step, side, step).mean(axis=(1, 3)))
    greys = [hu_to_uint8(np.rint(hu).astype(np.int16)) for hu in slices]
    labels = []
    for real in greys:
        body = ndimage.binary_fill_holes(ndimage.binary_opening(real > 127, iterations=2))
        lungs = ndimage.binary_closing(body & (real < 100), iterations=3) & body
        labels.append(np.where(lungs, classes.LEFT_LUNG, body * classes.BODY).astype(np.uint8))
    for index, (hu, real, label) in enumerate(zip(slices, greys, labels, strict=True)):
        for kind, change in KINDS.items():
            if step == 8 and ("halved" in kind or kind == "all of these"):
                continue  # of 64 px, 32 are left
            copy = hu_to_uint8(np.rint(change(hu, np.random.default_rng(index))).astype(np.int16))
            query = Query.of(copy, label)
            match = query.resemblance([query.whole(real, label)])[1]
            assert match.is_near_duplicate, (kind, match)
        query = Query.of(real, label)
        others = [query.whole(greys[other], labels[other]) for other in range(len(greys)) if other != index]
        assert not query.resemblance(others)[1].is_near_duplicate

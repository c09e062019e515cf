import csv
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy import ndimage

from lungforge.ct import classes
from lungforge.ct.window import hu_to_uint8
from lungforge.metrics.near_duplicates import (
    PatchLocation,
    halve_and_enlarge,
    nearest,
    resemblance,
    thumbnails,
)

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


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("halving", KERNELS)
@pytest.mark.parametrize("enlargement", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_a_real_slice_halved_and_enlarged_is_a_near_duplicate(size, halving, enlargement):
    label = thorax_map(size)
    real = rendered(label, 0)
    match = resemblance(by_pillow(real, halving, enlargement), label, real)
    assert match.is_near_duplicate
    assert match.error_levels < 2


@pytest.mark.parametrize("corner", [(40, 30), (41, 30), (33, 57), (0, 0), (96, 96)])
@pytest.mark.parametrize("halving", ["nearest", "box", "bicubic", "lanczos"])
def test_a_patch_of_a_halved_slice_is_a_near_duplicate_wherever_it_was_cut(corner, halving):
    label = thorax_map(128)
    real = rendered(label, 0)
    cut = np.s_[corner[0] : corner[0] + 32, corner[1] : corner[1] + 32]
    copy = by_pillow(real, halving, "bicubic")[cut]
    match = resemblance(copy, label[cut], real[cut], PatchLocation(real, corner))
    assert match.is_near_duplicate or (label[cut] == 0).all()
    # Another texture from the same map is none, though there are twice as many views to be like.
    other = resemblance(rendered(label, 1)[cut], label[cut], real[cut], PatchLocation(real, corner))
    assert not other.is_near_duplicate


def test_every_other_pixel_is_a_near_duplicate_whichever_is_kept():
    label = thorax_map(64)
    real = rendered(label, 0)
    for start in (0, 1):
        copy = real[start::2, start::2].repeat(2, axis=0).repeat(2, axis=1)
        assert resemblance(copy, label, real).is_near_duplicate


def test_the_same_slice_brighter_or_with_a_little_noise_is_a_near_duplicate():
    label = thorax_map(128)
    real = rendered(label, 0, levels=20)
    noise = np.random.default_rng(5).normal(scale=4, size=real.shape)
    for copy in (real, real * 0.8 + 20, real + noise):
        assert resemblance(np.clip(np.rint(copy), 0, 255).astype(np.uint8), label, real).is_near_duplicate


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("levels", [2.0, 15.0])
def test_good_slices_from_the_same_map_are_no_duplicates(size, levels):
    label = thorax_map(size)
    real = rendered(label, 0, levels=levels)
    for seed in range(1, 6):
        match = resemblance(rendered(label, seed, levels=levels), label, real)
        assert not match.is_near_duplicate
        assert abs(match.correlation) < 0.8


def test_a_plain_correlation_would_accuse_what_only_follows_the_map():
    # Why the texture is compared: these two share nothing but their map.
    label = thorax_map(128)
    one, other = rendered(label, 0, levels=3), rendered(label, 1, levels=3)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.995
    assert not resemblance(one, label, other).is_near_duplicate


def test_empty_and_flat_pictures_are_no_copies_of_one_another():
    black = np.zeros((64, 64), dtype=np.uint8)
    assert not resemblance(black, np.zeros_like(black), black).is_near_duplicate
    flat = np.choose(thorax_map(64), [0, 190, 30, 30, 0, 180]).astype(np.uint8)
    assert not resemblance(flat, thorax_map(64), flat).is_near_duplicate


def test_a_copy_from_a_larger_real_slice_is_detected():
    label = thorax_map(128)
    real = rendered(label, 0, grain=2.0)
    small = np.asarray(Image.fromarray(real).resize((64, 64), Image.Resampling.BOX))
    assert resemblance(small, thorax_map(64), real).is_near_duplicate


def test_halving_and_enlarging_agrees_with_pillow():
    real = rendered(thorax_map(64), 0)
    for halving in ("box", "bilinear", "bicubic"):
        for enlargement in ("nearest", "bilinear", "bicubic"):
            expected = by_pillow(real, halving, enlargement)
            # Pillow also clips the overshoot of the halved picture, at the edges of the body.
            assert np.abs(halve_and_enlarge(real, halving, enlargement) - expected).mean() < 1


def test_nearest_finds_the_slice_itself_first():
    pictures = np.stack([rendered(thorax_map(64), seed) for seed in range(6)])
    small = thumbnails(pictures)
    neighbours = nearest(small[[4, 1]], small, 3)
    assert neighbours.shape == (2, 3)
    assert neighbours[:, 0].tolist() == [4, 1]
    assert nearest(small[:1], small[:2], 3).shape == (1, 2)


@pytest.mark.real_data
def test_on_real_slices_every_halved_one_is_named_and_no_other():
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder:
        pytest.skip("LUNGFORGE_REAL_DATA does not name the folder of real slices")
    root = Path(folder, "luna16_mini")
    with (root / "annotations.csv").open(encoding="utf-8") as file:
        known = {row["seriesuid"] for row in csv.DictReader(file)}
    paths = [path for path in sorted(root.glob("subset*/*.mhd")) if path.stem in known][::30]
    assert len(paths) >= 10
    slices = [
        hu_to_uint8(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0])[::2, ::2]
        for path in paths
    ]
    for index, real in enumerate(slices):
        body = ndimage.binary_fill_holes(ndimage.binary_opening(real > 127, iterations=2))
        label = np.where(body, np.where(real < 100, classes.LEFT_LUNG, classes.BODY), 0).astype(np.uint8)
        other = slices[(index + 1) % len(slices)]
        assert resemblance(by_pillow(real, "bicubic", "bicubic"), label, real).is_near_duplicate
        assert resemblance(by_pillow(real, "box", "bilinear"), label, real).is_near_duplicate
        assert not resemblance(real, label, other).is_near_duplicate

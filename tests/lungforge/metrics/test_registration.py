"""Registration against the same written out, loop by loop, and against planted movements."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from lungforge.metrics.registration import (
    ROTATIONS_DEGREES,
    ZOOMS,
    Alignment,
    Template,
    coarse_alignments,
    onto,
    refine,
)


def grain(size, seed, sigma=1.3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), sigma)
    return (noise * (10 / noise.std())).astype(np.float32)


def moved(image, *, mirrored=False, degrees=0.0, zoom=1.0, down=0.0, right=0.0):
    """Mirrored, then turned and enlarged about the centre, then moved; written out for single pixels."""
    angle, (height, width) = np.deg2rad(degrees), image.shape
    places = np.empty((2, height, width))
    for row, column in itertools.product(range(height), range(width)):
        y, x = row - (height - 1) / 2 - down, column - (width - 1) / 2 - right
        y, x = (np.cos(angle) * y + np.sin(angle) * x) / zoom, (np.cos(angle) * x - np.sin(angle) * y) / zoom
        x = -x if mirrored else x
        places[:, row, column] = y + (height - 1) / 2, x + (width - 1) / 2
    return ndimage.map_coordinates(image, places, order=1).astype(np.float32)


def slow_coarse(texture, region, real, reach):
    """The best of mirror images, rotations, zooms and whole shifts, one after another."""
    best = -1.0
    size = len(texture)
    for flip, degrees, zoom in itertools.product((False, True), ROTATIONS_DEGREES, ZOOMS):
        view, mask = (image[:, ::-1] if flip else image for image in (texture, region.astype(np.float32)))
        view, mask = (moved(image, degrees=degrees, zoom=zoom) for image in (view, mask))
        inside = mask > 0.5
        for down, right in itertools.product(range(2 * reach + 1), repeat=2):
            window = real[down : down + size, right : right + size]
            best = max(best, np.corrcoef(view[inside], window[inside])[0, 1])
    return best


def test_the_grid_is_that_of_a_slow_search():
    size, reach = 16, 1
    region = np.zeros((size, size), dtype=bool)
    region[2:14, 3:13] = True
    for seed in range(3):
        texture, real = grain(size, seed), grain(size + 2 * reach, seed + 10)
        others = [real, grain(size + 2 * reach, seed + 20)]
        found = coarse_alignments(Template.of(texture, region), others, reach)
        for one, other in zip(found, others, strict=True):
            assert one.correlation == pytest.approx(slow_coarse(texture, region, other, reach), abs=1e-4)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mirrored": True},
        {"down": 2.5, "right": -1.25},
        {"degrees": 2.0},
        {"degrees": -2.75, "zoom": 1.02},
        {"zoom": 0.97, "down": 1.0},
        {"mirrored": True, "degrees": 2.0, "zoom": 1.03, "down": -2.0, "right": 1.5},
    ],
)
def test_what_was_planted_is_measured(size, change):
    real = grain(size, 3)
    region = np.zeros((size, size), dtype=bool)
    region[6:-6, 6:-6] = True
    template = Template.of(moved(real, **change), region)
    margin = 5 * template.factor
    padded = np.pad(real, margin)
    small = padded.reshape(
        *(side for edge in padded.shape for side in (edge // template.factor, template.factor))
    )
    (start,) = coarse_alignments(template, [small.mean(axis=(1, 3))], 5)
    found = refine(template, padded, start, 5)
    assert found.correlation > 0.97
    assert found.mirrored == change.get("mirrored", False)
    assert found.rotation_degrees == pytest.approx(change.get("degrees", 0.0), abs=0.4)
    assert found.zoom == pytest.approx(change.get("zoom", 1.0), abs=0.008)
    assert found.down == pytest.approx(change.get("down", 0.0), abs=0.15)
    assert found.right == pytest.approx(change.get("right", 0.0), abs=0.15)


def test_textures_that_have_nothing_in_common_stay_apart():
    region = np.ones((64, 64), dtype=bool)
    template = Template.of(grain(64, 0), region)
    for seed in range(1, 4):
        padded = np.pad(grain(64, seed), 6)
        (start,) = coarse_alignments(template, [padded], 6)
        assert refine(template, padded, start, 6).correlation < 0.4


@pytest.mark.parametrize("mirrored", [False, True])
def test_layers_of_a_real_image_come_to_lie_where_the_alignment_says(mirrored):
    real = grain(40, 0)
    ours = moved(real, mirrored=mirrored, degrees=2.0, zoom=1.02, down=1.5, right=-0.5)
    region = np.zeros((40, 40), bool)
    region[8:-8, 8:-8] = True
    alignment = Alignment(0.0, mirrored, 2.0, 1.02, 1.5, -0.5)
    layers = np.pad(np.stack([real, 2 * real]), ((0, 0), (4, 4), (4, 4)))
    placed = onto(Template.of(ours, region), layers, alignment)
    np.testing.assert_allclose(placed[0], ours[region], atol=1e-3)
    np.testing.assert_allclose(placed[1], 2 * ours[region], atol=2e-3)

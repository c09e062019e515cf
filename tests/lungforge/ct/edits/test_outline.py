import numpy as np
from scipy import ndimage

from lungforge.ct.edits.outline import generate_outline, rasterise


def outlines(count: int) -> list:
    return [generate_outline(np.random.default_rng(seed)) for seed in range(count)]


def test_an_outline_has_the_area_of_its_disc_in_one_piece_without_holes() -> None:
    for outline in outlines(100):
        assert outline.mask.sum() == 3217  # pi / 4 * 64**2
        assert ndimage.label(outline.mask)[1] == 1
        np.testing.assert_array_equal(ndimage.binary_fill_holes(outline.mask), outline.mask)
        edges = outline.mask[[0, -1]].any() or outline.mask[:, [0, -1]].any()
        assert not edges


def test_an_outline_is_star_shaped() -> None:
    for outline in outlines(20):
        from_centre = np.argwhere(outline.mask) - (outline.y, outline.x)
        for share in (0.25, 0.5, 0.75, 0.95):
            rows, columns = np.rint(from_centre * share + (outline.y, outline.x)).astype(int).T
            # Rounding to pixels may step over the outline where it runs towards the centre.
            assert outline.mask[rows, columns].mean() > 0.999


def test_outlines_are_as_irregular_as_the_nodules_of_luna16() -> None:
    rows, columns = np.indices(outlines(1)[0].mask.shape)
    off = []
    for outline in outlines(200):
        row, column = ndimage.center_of_mass(outline.mask)
        distance = np.hypot(rows - row, columns - column)
        disc = distance <= np.sort(distance, axis=None)[outline.mask.sum() - 1]
        off.append((outline.mask & ~disc).sum() / disc.sum())
    # Of the 45 nodules inside a lung and of 60 pixels or more in subset 3: 6% to 36%, at the median 13%.
    assert 0.11 < np.median(off) < 0.15
    assert min(off) > 0.01
    assert max(off) < 0.36


def test_the_centre_is_where_it_is_asked_to_be_between_pixels() -> None:
    outline = outlines(1)[0]
    for down, right in ((0.0, 0.0), (-0.5, 0.5), (0.3, -0.1)):
        nodule = rasterise(outline, 9.0, (0.8, 1.3), (down, right))
        height, width = nodule.mask.shape
        assert (height % 2, width % 2) == (1, 1)
        assert np.isclose(nodule.y, (height - 1) / 2 + down)
        assert np.isclose(nodule.x, (width - 1) / 2 + right)
        assert nodule.diameter_mm == 9.0
        assert not (nodule.mask[[0, -1]].any() and nodule.mask[:, [0, -1]].any())

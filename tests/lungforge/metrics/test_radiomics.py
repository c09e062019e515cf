import numpy as np
import pytest
from scipy import ndimage, stats

from lungforge.ct import classes
from lungforge.metrics import texture
from lungforge.metrics.radiomics import FEATURES, columns_of, radiomic_features

SPACING = (1.5, 1.5)


def thorax(seed=0):
    """Body at 40 HU with fat and bone, two lungs with vessels and a nodule; with texture."""
    rows, columns = (np.mgrid[:96, :96] + 0.5) / 96 - 0.5
    label = np.zeros((96, 96), np.uint8)
    label[(columns / 0.45) ** 2 + (rows / 0.4) ** 2 < 1] = classes.BODY
    for side, lung in ((-1, classes.RIGHT_LUNG), (1, classes.LEFT_LUNG)):
        label[((columns - side * 0.2) / 0.15) ** 2 + (rows / 0.28) ** 2 < 1] = lung
    label[46:50, 64:68] = classes.NODULE
    hu = np.array([-1000, 40, -850, -850, -1000, 30])[label].astype(float)
    lungs = np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG))
    hu[lungs & (np.indices(hu.shape)[0] % 12 == 0)] = -100
    hu[(label == classes.BODY) & (columns < -0.35)] = -100
    noise = np.random.default_rng(seed).normal(size=hu.shape)
    return np.rint(hu + 15 * ndimage.gaussian_filter(noise, 0.6)).astype(np.int16), label


def value(features, region, name):
    (found,) = [
        features[index]
        for index, feature in enumerate(FEATURES)
        if feature.region == region and feature.name.startswith(name)
    ]
    return found


def test_there_are_few_features_and_each_has_a_name():
    assert 20 <= len(FEATURES) <= 40
    assert len({(feature.region, feature.name) for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("region", ["lungs", "body"])
def test_intensities_are_those_of_numpy_and_scipy(region):
    hu, label = thorax()
    features = radiomic_features(hu, label, SPACING)
    mask = (
        np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG))
        if region == "lungs"
        else label == classes.BODY
    )
    pixels = np.clip(hu[mask], -1000, 400).astype(float)
    for name, percent in (("10th", 10), ("median", 50), ("90th", 90)):
        assert value(features, region, name) == pytest.approx(np.percentile(pixels, percent))
    assert value(features, region, "standard deviation") == pytest.approx(pixels.std(), rel=1e-5)
    assert value(features, region, "skewness") == pytest.approx(stats.skew(pixels), rel=1e-4)
    _, counts = np.unique((pixels + 1000) // 25, return_counts=True)
    assert value(features, region, "entropy") == pytest.approx(stats.entropy(counts, base=2), rel=1e-5)
    assert value(features, region, "area") == pytest.approx(len(pixels) * 2.25 / 100, rel=1e-5)


def test_textures_are_those_of_the_whole_slice_inside_the_region():
    hu, label = thorax()
    features = radiomic_features(hu, label, SPACING)
    mask, values = label == classes.BODY, np.clip(hu, -1000, 400).astype(np.float32)
    inside = texture.interior(mask)
    expected = {
        "roughness": np.abs(texture.laplacian(values)[inside]).mean(),
        "noise": np.percentile(texture.local_deviation(values)[inside], 20),
        "gradient": texture.gradient(values, SPACING)[inside].mean(),
        "correlation": texture.co_occurrence(texture.grey_levels(values), mask)[0],
        "homogeneity": texture.co_occurrence(texture.grey_levels(values), mask)[1],
        "texture finer": texture.band_deviations(values, mask, SPACING, (4.0, 8.0))[0],
        "texture of 4": texture.band_deviations(values, mask, SPACING, (4.0, 8.0))[1],
    }
    for name, each in expected.items():
        assert value(features, "body", name) == pytest.approx(each, rel=1e-4)


def test_shares_of_vessels_emphysema_fat_and_bone():
    hu, label = thorax()
    hu[20:24, 40:56] = np.where(label[20:24, 40:56] == classes.BODY, 300, hu[20:24, 40:56])
    hu[40:44, 20:28] = -990
    features = radiomic_features(hu, label, SPACING)
    lungs, body = np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG)), label == classes.BODY
    inside = hu[ndimage.binary_erosion(lungs, np.ones((3, 3)))]
    assert value(features, "lungs", "share of vessels") == pytest.approx((inside > -500).mean())
    contrast = np.percentile(inside, 98) - np.median(inside)
    assert value(features, "lungs", "contrast of vessels") == pytest.approx(contrast)
    low = np.clip(hu, -1000, 400)[lungs] < -950
    assert value(features, "lungs", "share of low attenuation") == pytest.approx(low.mean())
    assert low.any()
    assert value(features, "body", "share of bone") == pytest.approx((hu[body] > 150).mean())
    fat = (hu[body] >= -200) & (hu[body] < -30)
    assert value(features, "body", "share of fat") == pytest.approx(fat.mean())


def test_nodules_are_compared_with_the_lung_around_them():
    hu, label = thorax()
    hu[np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG))] = -850
    hu[label == classes.NODULE] = 30
    hu[46, 64:68] = -450
    features = radiomic_features(hu, label, SPACING)
    assert value(features, "nodules", "mean of the lung") == -850
    nodules = features[columns_of("nodules")]
    assert nodules[0] == pytest.approx((12 * 30 - 4 * 450) / 16)
    assert nodules[1] == pytest.approx(nodules[0] + 850)
    # 16 borders of a square of 4: 4 above and one at each end of that row are of its darker row.
    assert nodules[3] == pytest.approx((6 * 400 + 10 * 880) / 16 / 1.5)
    assert nodules[4] == 0.75


def test_a_region_that_is_not_there_has_no_features():
    hu, label = thorax()
    label[label == classes.NODULE] = classes.LEFT_LUNG
    label[np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG))] = classes.BODY
    features = radiomic_features(hu, label, SPACING)
    assert np.isnan(features[columns_of("lungs")]).all()
    assert np.isnan(features[columns_of("nodules")]).all()
    assert np.isfinite(features[columns_of("body")]).all()


@pytest.mark.parametrize("hu", [0, 3000, -3000])
def test_an_image_of_one_value_has_finite_features(hu):
    _, label = thorax()
    assert np.isfinite(radiomic_features(np.full(label.shape, hu, np.int16), label, SPACING)).all()


def test_values_beyond_the_window_count_at_its_edges():
    hu, label = thorax()
    hu[50:55, 44:50] = 2000
    clipped = radiomic_features(np.clip(hu, -1000, 400), label, SPACING)
    np.testing.assert_array_equal(radiomic_features(hu, label, SPACING), clipped)


def test_each_fault_moves_the_feature_that_is_made_for_it():
    hu, label = thorax()
    before = radiomic_features(hu, label, SPACING)

    def change(image, region, name, spacing=SPACING):
        after = radiomic_features(np.asarray(image).astype(np.int16), label, spacing)
        return value(after, region, name) - value(before, region, name)

    noise = np.random.default_rng(9).normal(size=hu.shape) * 40
    assert change(hu + 50, "lungs", "median") == pytest.approx(50)
    assert change(hu + noise, "body", "noise") > 10
    assert change(ndimage.uniform_filter(hu, 3), "lungs", "roughness") < -10
    lungs = np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG))
    assert change(np.where(lungs, -850, hu), "lungs", "contrast of vessels") < -200
    assert change(np.where(label == classes.NODULE, -850, hu), "nodules", "contrast") < -800
    assert change(hu, "body", "area", (2.0, 1.5)) > 10
    assert change(hu, "body", "gradient", (2.0, 1.5)) < 0

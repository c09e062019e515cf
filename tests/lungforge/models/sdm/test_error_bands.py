"""The errors of the image estimate by noise, in HU."""

import pytest
import torch

from lungforge.models.sdm.error_bands import BANDS, RunningErrors, shares_and_errors
from lungforge.models.sdm.objectives.base import ImageError

#: Five images at high noise, two in the middle, one at low noise: σ at 64 px, and squared error.
IMAGES = ImageError(
    torch.tensor([3.0, 0.1, 80.0, 2.5, 0.5, 1.9, 10.0, 2.1]),
    torch.tensor([0.04, 0.01, 0.16, 0.04, 0.09, 0.25, 0.01, 0.25]),
)


@pytest.mark.parametrize("side", [64, 256])
def test_images_count_in_the_band_of_their_noise_for_their_side(side):
    error = ImageError(IMAGES.sigma * side / 64, IMAGES.squared)
    means = shares_and_errors(error, side).tolist()
    assert means == pytest.approx([1 / 8, 2 / 8, 5 / 8, 0.1 / 8, 0.8 / 8, 1.4 / 8], rel=1e-5)


def test_parts_of_a_batch_average_to_the_whole():
    parts = [ImageError(IMAGES.sigma[part], IMAGES.squared[part]) for part in (slice(4), slice(4, 8))]
    mean = torch.stack([shares_and_errors(part, 64) for part in parts]).mean(0)
    torch.testing.assert_close(mean, shares_and_errors(IMAGES, 64))


def test_the_first_step_shows_its_mean_and_a_band_without_images_half_the_window():
    # One image of four at high noise, off by 0.2 of 700 HU; three in the middle, by 0.1 in the mean.
    shown = RunningErrors(4).update([0, 0.75, 0.25, 0, 0.075, 0.05])
    assert dict(zip(BANDS, shown, strict=True)) == pytest.approx(
        {"error_low_noise_hu": 700, "error_middle_noise_hu": 70, "error_high_noise_hu": 140}
    )


def test_later_steps_weigh_more_and_by_their_images():
    errors = RunningErrors(4)
    errors.update([0, 1, 0, 0, 0.1, 0])
    # A step of half as many images, off by 0.3: of the first one's weight, .995 to the power of 4 is left.
    shown = errors.update([0.5, 0.5, 0, 0.2, 0.15, 0])
    assert shown[1] == pytest.approx(700 * (0.98015 * 0.1 + 0.15) / (0.98015 + 0.5), rel=1e-5)
    assert shown[0] == pytest.approx(280)
    for _ in range(500):
        shown = errors.update([0, 1, 0, 0, 0.05, 0])
    # By now all of the middle is new, and the low band, without an image since, is as it was.
    assert shown[1] == pytest.approx(35, rel=0.01)
    assert shown[0] == pytest.approx(280)


def test_resumed_it_shows_the_same_to_the_last_bit():
    steps = torch.rand(20, 6, generator=torch.Generator().manual_seed(0)).tolist()
    unbroken = RunningErrors(8)
    shown = [unbroken.update(step) for step in steps]
    first, second = RunningErrors(8), RunningErrors(8)
    for step in steps[:10]:
        first.update(step)
    second.load_state_dict(first.state_dict())
    assert [second.update(step) for step in steps[10:]] == shown[10:]

"""What stands beside the progress bar of a training."""

import numpy as np
import pytest

from services.train.shown import SmoothedLoss, note


def test_the_loss_is_the_weighted_mean_of_the_last_steps() -> None:
    losses = np.random.default_rng(0).uniform(0, 1, 200)
    smoothed = SmoothedLoss()
    shown = [smoothed.update({"loss": loss, "gradient_norm": loss})["loss"] for loss in losses]
    for count in (1, 2, 7, 200):
        weights = 0.98 ** np.arange(count)[::-1]
        assert shown[count - 1] == pytest.approx(np.average(losses[:count], weights=weights))
    assert smoothed.update({"loss": 0.0, "gradient_norm": 3.0})["gradient_norm"] == 3.0
    assert smoothed.update({}) == {}


def test_the_bar_shows_the_loss_and_the_error_of_the_image_and_nothing_else() -> None:
    metrics = {
        "loss": 0.023456,
        "error_low_noise_hu": 30.0,
        "error_middle_noise_hu": 60.0,
        "error_high_noise_hu": 99.0,
        "gradient_norm": 0.5,
        "images_per_second": 20.0,
    }
    assert note(metrics) == "loss 0.0235, error 63 HU"
    assert note({"generator_loss": 2.5, "adversarial": 1.0}) == "generator loss 2.5"
    assert note({}) == ""

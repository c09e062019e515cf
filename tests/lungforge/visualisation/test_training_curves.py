import io

import numpy as np
from PIL import Image

from lungforge.visualisation.training_curves import plot_curves, running_median


def test_medians_of_stretches_and_their_middles() -> None:
    steps, medians = running_median([float(value) for value in range(150)])
    # Stretches of three steps: 1, 2, 3 hold the values 0, 1, 2.
    assert steps[:2].tolist() == [2, 5]
    assert medians[:2].tolist() == [1, 4]
    assert len(steps) == 50
    steps, medians = running_median([5.0, 1.0, 9.0])
    assert (steps.tolist(), medians.tolist()) == ([1, 2, 3], [5, 1, 9])
    steps, medians = running_median([2.0] * 60 + [7.0])
    assert (steps[-1], medians[-1]) == (61, 7)


def test_a_picture_a_metric_the_same_every_time() -> None:
    history = {"loss": [1.0, 0.5, 0.25], "kl": [0.0, -1.0, 2.0], "gradient_norm": [3.0, 2.0, 1.0]}
    picture = plot_curves(history, "sdm, 3 slices")
    assert picture == plot_curves(history, "sdm, 3 slices")
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (960, 560)
        assert np.asarray(image.convert("L")).std() > 5


def test_errors_by_noise_share_a_panel() -> None:
    errors = {f"error_{band}_noise_hu": [300.0, 150.0, 90.0] for band in ("high", "middle", "low")}
    with Image.open(io.BytesIO(plot_curves({"loss": [1.0, 0.5, 0.25], **errors}, "sdm"))) as image:
        assert image.size == (960, 300), "two panels"

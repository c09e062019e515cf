"""How far the image estimate is off, in Hounsfield units, at high, middle and low noise.

A loss averages over all noise and hides what each level of it decides: brightness and coarse anatomy are
settled where there is much noise, texture where there is little. The bands follow the image's side as the
noise of training does (see ``EDM``): averaged over a share of a larger image, noise is less.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lungforge.ct.window import HU_PER_UNIT
from lungforge.models.sdm.config import REFERENCE_SIDE
from lungforge.models.sdm.objectives.base import ImageError

#: One a band, from the least noise to the most.
BANDS: Final = ("error_low_noise_hu", "error_middle_noise_hu", "error_high_noise_hu")
#: The σ between two bands, for images of 64 px in [-1, 1]. Above 2, noise hides all but brightness and coarse
#: anatomy; below 0.3, half the spread of the pixels, only texture is left to find.
_BOUNDS: Final = (0.3, 2.0)
#: Images of all bands that the running means are over: enough that chance does not triple them (see
#: ``require_no_rise``), with noise prediction too, whose errors at high noise differ most.
_IMAGES: Final = 200
#: Shown for a band of which no image has come yet: half the window, as much as mid-grey is off at most.
_UNKNOWN: Final = 1.0


def shares_and_errors(error: ImageError, side: int) -> Tensor:
    """What the images of a batch tell about each band, as means over the batch.

    So the mean over micro-batches and workers of equal size is that of the whole batch.

    Args:
        error: Of the images.
        side: Of the images, in px.

    Returns:
        The share of the images that are in each band, then the same with each image counted by its
        root-mean-square error, in [-1, 1] units, [2 * bands].
    """
    # As plain numbers: a tensor would have to be sent to the device.
    low, high = (np.array(_BOUNDS, np.float32) * np.float32(side / REFERENCE_SIDE)).tolist()
    above_low, above_high = error.sigma > low, error.sigma > high
    inside = torch.stack([~above_low, above_low & ~above_high, above_high], 1)
    return torch.cat([inside.float().mean(0), (inside * error.squared.sqrt()[:, None]).mean(0)])


class RunningErrors:
    """Running means over the images of each band, the more recent ones with more weight.

    Args:
        batch: Images a step, over all workers.
    """

    def __init__(self, batch: int) -> None:
        self._kept = (1 - 1 / _IMAGES) ** batch
        self._means = torch.zeros(2, len(BANDS), dtype=torch.float64)

    def update(self, means: Sequence[float]) -> list[float]:
        """Add what ``shares_and_errors`` gave for a step; returns the errors of ``BANDS``, in HU."""
        step = torch.tensor(means, dtype=torch.float64).view_as(self._means)
        self._means = self._kept * self._means + (1 - self._kept) * step
        shares, errors = self._means
        errors = (errors / shares).where(shares > 0, _UNKNOWN)
        return [HU_PER_UNIT * error for error in errors.tolist()]

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next update depends on."""
        return {"means": self._means}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resume from what ``state_dict`` gave."""
        self._means = state["means"]

"""The objectives: one module each, and which one a network was made for."""

from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.objectives.base import Objective
from lungforge.models.sdm.objectives.edm import EDM
from lungforge.models.sdm.objectives.eps import NoisePrediction

__all__ = ["Objective", "objective_of"]


def objective_of(config: UNetConfig) -> Objective:
    """The objective of a network."""
    if config.objective == "edm":
        return EDM(config.image_size, config.pixel_mean, config.pixel_spread)
    return NoisePrediction()

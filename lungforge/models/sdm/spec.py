"""The semantic diffusion model as a generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from lungforge.errors import InputError
from lungforge.models.base import ModelSpec, Preset, SamplingOptions
from lungforge.models.cost import Cost
from lungforge.models.sdm.config import PRESETS, DiffusionOptions, UNetConfig, UNetOptions, sampling_of
from lungforge.models.sdm.cost import cost_of

if TYPE_CHECKING:
    from torch import Tensor

    from lungforge.models.learner import Distribute, TrainingSettings
    from lungforge.models.sdm.learner import DiffusionLearner
    from lungforge.models.sdm.slice_sampler import DiffusionSliceSampler
    from lungforge.models.sdm.unet import SemanticUNet


class DiffusionSpec(ModelSpec[UNetConfig, DiffusionOptions]):
    """A semantic U-Net, trained to denoise and sampled step by step."""

    name = "sdm"
    summary = "the semantic diffusion model"
    network_options = UNetOptions
    network_config = UNetConfig
    learner_options = DiffusionOptions
    presets: ClassVar[Mapping[str, Preset]] = PRESETS
    inpaints = True

    def with_statistics(self, config: UNetConfig, images: Callable[[], NDArray[np.float32]]) -> UNetConfig:
        """See ``ModelSpec``: mean and spread of the pixels, for the objective edm."""
        if config.objective != "edm":
            return config
        pixels = images()
        mean, spread = float(pixels.mean(dtype=np.float64)), float(pixels.std(dtype=np.float64))
        if not spread > 0:
            raise InputError("all pixels of the training images are equal; give other slices")
        return dataclasses.replace(config, pixel_mean=round(mean, 4), pixel_spread=round(spread, 4))

    def sampling(self, config: UNetConfig, options: SamplingOptions) -> SamplingOptions:
        """See ``ModelSpec``: what suits the objective."""
        return sampling_of(config, options)

    def cost(self, config: UNetConfig) -> Cost:
        """See ``ModelSpec``."""
        return cost_of(config)

    def build(self, config: UNetConfig, weights: Mapping[str, Tensor]) -> SemanticUNet:
        """See ``ModelSpec``."""
        from lungforge.models.sdm.weights import build

        return build(config, weights)

    def sampler(self, network: SemanticUNet, options: SamplingOptions) -> DiffusionSliceSampler:
        """See ``ModelSpec``."""
        from lungforge.models.sdm.slice_sampler import DiffusionSliceSampler

        return DiffusionSliceSampler(network, options)

    def learner(
        self,
        config: UNetConfig,
        options: DiffusionOptions,
        settings: TrainingSettings,
        *,
        distribute: Distribute,
        averages: bool,
    ) -> DiffusionLearner:
        """See ``ModelSpec``."""
        from lungforge.models.sdm.learner import DiffusionLearner

        return DiffusionLearner(config, options, settings, distribute=distribute, averages=averages)


SPEC = DiffusionSpec()

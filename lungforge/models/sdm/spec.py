"""The semantic diffusion model as a generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lungforge.models.base import ModelSpec, Preset, SamplingOptions
from lungforge.models.sdm.config import PRESETS, DiffusionOptions, UNetConfig, UNetOptions

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

"""The GauGAN baseline as a generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from lungforge.models.base import LearnerOptions, ModelSpec, Preset, SamplingOptions
from lungforge.models.gaugan.config import PRESETS, GauGANConfig, GauGANOptions

if TYPE_CHECKING:
    from torch import Tensor

    from lungforge.models.gaugan.generator import Generator
    from lungforge.models.gaugan.learner import AdversarialLearner
    from lungforge.models.gaugan.slice_sampler import GauGANSliceSampler
    from lungforge.models.learner import Distribute, TrainingSettings


class GauGANSpec(ModelSpec[GauGANConfig, LearnerOptions]):
    """A generator that is trained against a discriminator and samples in one pass."""

    name = "gaugan"
    summary = "the GauGAN baseline (NoduleGAN)"
    network_options = GauGANOptions
    network_config = GauGANConfig
    learner_options = LearnerOptions
    presets: ClassVar[Mapping[str, Preset]] = PRESETS

    def build(self, config: GauGANConfig, weights: Mapping[str, Tensor]) -> Generator:
        """See ``ModelSpec``; the weights are those of a folded generator."""
        from lungforge.models.gaugan.weights import build

        return build(config, weights)

    def sampler(self, network: Generator, options: SamplingOptions) -> GauGANSliceSampler:
        """See ``ModelSpec``; the options are of no use to a network of one pass."""
        from lungforge.models.gaugan.slice_sampler import GauGANSliceSampler

        return GauGANSliceSampler(network)

    def learner(
        self,
        config: GauGANConfig,
        options: LearnerOptions,
        settings: TrainingSettings,
        *,
        distribute: Distribute,
        averages: bool,
    ) -> AdversarialLearner:
        """See ``ModelSpec``."""
        from lungforge.models.gaugan.learner import AdversarialLearner

        return AdversarialLearner(config, settings, distribute=distribute, averages=averages)


SPEC = GauGANSpec()

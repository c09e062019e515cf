"""What LungForge needs to know of the toy generator; free of PyTorch, so that ``--help`` answers at once."""

from dataclasses import dataclass, field

from lungforge.config import above, at_least, check
from lungforge.models.base import DataShape, LearnerOptions, ModelSpec, NetworkOptions, Preset


@dataclass(frozen=True)
class ToyOptions(NetworkOptions):
    """What may be chosen of the network: the options ``--network.*``."""

    levels: int = field(default=1, metadata=at_least(1))
    """Grey levels of each class, whose mean is taken."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ToyConfig(ToyOptions, DataShape):
    """The whole network."""


@dataclass(frozen=True)
class ToyLearnerOptions(LearnerOptions):
    """What may be chosen of its training: the options ``--learner.*``."""

    weight: float = field(default=1.0, metadata=above(0))
    """Weight of the loss."""

    def __post_init__(self) -> None:
        check(self)


class ToySpec(ModelSpec[ToyConfig, ToyLearnerOptions]):
    """A grey level for each class, and noise."""

    name = "toy"
    summary = "a grey level for each class"
    network_options, network_config, learner_options = ToyOptions, ToyConfig, ToyLearnerOptions
    presets = {  # noqa: RUF012
        name: Preset(ToyOptions(levels), ToyLearnerOptions(), image_size=32, learning_rate=0.05)
        for name, levels in (("tiny", 1), ("luna256", 2))
    }

    def build(self, config, weights):
        from lungforge.models.checkpoint import build_network
        from toy_generator.network import ToyNetwork

        return build_network(lambda: ToyNetwork(config), weights)

    def sampler(self, network, options):
        from toy_generator.network import ToySampler

        return ToySampler(network)

    def learner(self, config, options, settings, *, distribute, averages):
        from toy_generator.learner import ToyLearner

        return ToyLearner(config, options, settings, distribute=distribute, averages=averages)


SPEC = ToySpec()

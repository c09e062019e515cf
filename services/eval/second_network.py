"""The second network of an evaluation, whose weights the user brings."""

from lungforge.metrics.extractors import Description
from lungforge.metrics.torchvision_extractor import torchvision_extractor
from lungforge.storage import read_bytes
from services.eval.config import EvalConfig


def second_description(config: EvalConfig) -> Description | None:
    """What the second network is; None without one.

    Raises:
        InputError: There is no such file, or it does not hold the weights of the network.
    """
    if config.second_extractor is None:
        return None
    return torchvision_extractor(read_bytes(config.second_extractor), config.second_architecture).description

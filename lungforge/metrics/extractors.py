"""Names and descriptions of the feature extractors; apart from them, as configurations load no networks."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

ExtractorName = Literal["efficientnet-lite0", "inception-v3"]

EFFICIENTNET_LITE0: Final = "efficientnet-lite0"
INCEPTION_V3: Final = "inception-v3"
EXTRACTORS: Final[tuple[ExtractorName, ...]] = get_args(ExtractorName)


@dataclass(frozen=True)
class Description:
    """What must be reported with every result that is based on an extractor.

    Attributes:
        name: Name of the extractor, a value of ``EXTRACTORS``.
        distance_name: What a Fréchet distance of its features is called.
        dimensions: Length of a feature vector.
        input: From Hounsfield units to the values of a pixel.
        resize: From the size of an image to that of the network's input.
        weights_sha256: Of the file of weights.
    """

    name: str
    distance_name: str
    dimensions: int
    input: str
    resize: str
    weights_sha256: str

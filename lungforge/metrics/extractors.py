"""The names of the feature extractors; apart from them, so that a configuration loads no network library."""

from typing import Final, Literal, get_args

ExtractorName = Literal["efficientnet-lite0", "inception-v3"]
#: Networks of torchvision whose weights a second extractor may bring.
Architecture = Literal["resnet18", "resnet50", "convnext_tiny", "vit_b_16"]

EFFICIENTNET_LITE0: Final = "efficientnet-lite0"
INCEPTION_V3: Final = "inception-v3"
EXTRACTORS: Final[tuple[ExtractorName, ...]] = get_args(ExtractorName)
ARCHITECTURES: Final[tuple[Architecture, ...]] = get_args(Architecture)

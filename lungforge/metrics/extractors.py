"""The names of the feature extractors; apart from them, so that a configuration loads no network library."""

from typing import Final, Literal, get_args

ExtractorName = Literal["efficientnet-lite0", "inception-v3"]

EFFICIENTNET_LITE0: Final = "efficientnet-lite0"
INCEPTION_V3: Final = "inception-v3"
EXTRACTORS: Final[tuple[ExtractorName, ...]] = get_args(ExtractorName)

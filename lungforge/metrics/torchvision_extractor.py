"""Networks of torchvision as extractors, from a file of weights that somebody has trained elsewhere.

The file is a safetensors state dict: numbers and names, no code. Nothing is ever downloaded.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from lungforge.errors import InputError
from lungforge.metrics.extractors import ARCHITECTURES, Description
from lungforge.metrics.features import Extractor

#: Side in px of the input of all of these networks.
_SIDE: Final = 224
#: Mean and standard deviation of the channels, from 0 to 1, that torchvision's networks are trained with.
_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)
#: The module that turns features into scores of classes; it is left out, whether the file holds it or not.
_CLASSIFIER: Final[Mapping[str, str]] = {
    "resnet18": "fc",
    "resnet50": "fc",
    "convnext_tiny": "classifier.2",
    "vit_b_16": "heads",
}
assert set(_CLASSIFIER) == set(ARCHITECTURES)


def torchvision_extractor(
    weights: bytes, architecture: str | None = None, device: str | torch.device = "cpu"
) -> Extractor:
    """An extractor from the bytes of a safetensors file.

    Slices go in as three equal channels, at 224 px, standardised as torchvision does for ImageNet.

    Args:
        weights: The file: torchvision's names and shapes, exactly, but for the classifier, which may be
            missing or of other classes.
        architecture: One of ``ARCHITECTURES``; when not given, what the file's metadata name as such.
        device: Where to put the network.

    Raises:
        InputError: The file is no safetensors file, names no architecture, or holds other weights.
    """
    from torchvision import models

    try:
        state = load(weights)
        name = architecture or _metadata(weights).get("architecture")
    except (SafetensorError, ValueError) as error:
        raise InputError(
            f"the weights of the second extractor are not a sound safetensors file ({error}); save a state "
            "dict with safetensors.torch.save_file"
        ) from error
    if name is None or name not in _CLASSIFIER:
        raise InputError(
            f"the architecture of the second extractor is {name!r}; give --second-architecture "
            f"{', '.join(ARCHITECTURES)}, or name it as 'architecture' in the metadata of the file"
        )
    model = getattr(models, name)(weights=None)
    classifier = _CLASSIFIER[name]
    model.set_submodule(classifier, nn.Identity())
    backbone = {key: value for key, value in state.items() if not key.startswith(f"{classifier}.")}
    try:
        model.load_state_dict(backbone, strict=True)
    except RuntimeError as error:
        raise InputError(f"the weights of the second extractor do not fit {name}: {_first(error)}") from error
    if not all(torch.isfinite(value).all() for value in backbone.values()):
        raise InputError("the weights of the second extractor are not finite; save them again")
    target = torch.device(device)
    model.eval().to(target)
    mean, deviation = (torch.tensor(values, device=target)[:, None, None] for values in (_MEAN, _DEVIATION))

    def network(pixels: Tensor) -> Tensor:
        resized = nn.functional.interpolate(
            pixels, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True
        )
        features: Tensor = model((resized / 255 - mean) / deviation)
        return features

    with torch.inference_mode():
        dimensions = network(torch.zeros(1, 1, _SIDE, _SIDE, device=target)).shape[1]
    sha256 = hashlib.sha256(weights).hexdigest()
    description = Description(
        name=name,
        distance_name=f"Fréchet distance ({name}, weights {sha256[:8]})",
        dimensions=dimensions,
        input="HU window -1000..400 to 8-bit grey, three equal channels, grey / 255 standardised as ImageNet",
        resize=f"bilinear with antialiasing to {_SIDE} x {_SIDE}",
        weights_sha256=sha256,
    )
    return Extractor(description, network, target)


def _metadata(weights: bytes) -> dict[str, str]:
    """Of the header: JSON behind the eight bytes of its length."""
    length = int.from_bytes(weights[:8], "little")
    metadata: dict[str, str] = json.loads(weights[8 : 8 + length]).get("__metadata__", {})
    return metadata


def _first(error: RuntimeError) -> str:
    """The first complaint of torch's list."""
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return lines[0][:200] if lines else str(error)[:200]
